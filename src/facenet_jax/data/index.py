"""Which records belong to which identity, and which identities are held out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError

_OFFSETS, _NAMES, _NAME_ENDS = "offsets.npy", "names.npy", "name_ends.npy"


@dataclass(frozen=True, eq=False)
class IdentityIndex:
    """The identities of a source, each with a run of consecutive records.

    Attributes:
      names: one name an identity; an identity's label is its place in this sequence.
      offsets: int64 [identities + 1]; the records of identity i are offsets[i], ..., offsets[i + 1] - 1.
      folder: where its arrays are mapped from, if they are: pickled, it is opened anew instead of copied.
    """

    names: Sequence[str]
    offsets: NDArray[np.int64]
    folder: Path | None = None

    @property
    def records(self) -> int:
        """How many faces there are in all."""
        return int(self.offsets[-1])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """int64 [identities], the faces of each identity."""
        return np.diff(self.offsets)

    def identity_of(self, records: NDArray[np.int64]) -> NDArray[np.int64]:
        """The identity numbers of records, int64 of the same shape."""
        return np.searchsorted(self.offsets, records, side="right") - 1

    def records_of(self, identities: NDArray[np.int64]) -> NDArray[np.int64]:
        """All records of the given identities, int64 [faces], in the order of the identities."""
        starts = self.offsets[identities]
        counts = self.offsets[identities + 1] - starts
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(starts, counts) + within

    def __reduce__(self) -> tuple[Callable[..., IdentityIndex], tuple[Any, ...]]:
        if self.folder is not None:
            return open_index, (self.folder,)
        return IdentityIndex, (self.names, self.offsets)


def write_index(folder: str | os.PathLike[str], chunks: Iterable[tuple[Sequence[str], NDArray[np.int64]]]) -> None:
    """Writes an index that `open_index` opens, holding no more of it in memory than one chunk.

    Three NumPy files: offsets.npy, int64 [identities + 1]; names.npy, uint8, all names one after another in UTF-8 (with
    the file system's escapes); name_ends.npy, int64 [identities], where each name ends.

    Args:
      folder: exists.
      chunks: (names, int64 [names] faces of each), identities in their order.
    """
    folder = Path(folder)
    with (
        _Growing(folder / _OFFSETS, np.dtype(np.int64)) as offsets,
        _Growing(folder / _NAMES, np.dtype(np.uint8)) as names,
        _Growing(folder / _NAME_ENDS, np.dtype(np.int64)) as name_ends,
    ):
        records = np.zeros(1, np.int64)
        offsets.append(records)
        for chunk_names, counts in chunks:
            encoded = [os.fsencode(name) for name in chunk_names]
            lengths = np.array([len(name) for name in encoded], np.int64)
            name_ends.append(names.rows + np.cumsum(lengths))
            names.append(np.frombuffer(b"".join(encoded), np.uint8))
            ends = records[-1:] + np.cumsum(counts, dtype=np.int64)
            offsets.append(ends)
            records = np.concatenate([records, ends])[-1:]


def open_index(folder: str | os.PathLike[str]) -> IdentityIndex:
    """Maps an index that `write_index` wrote: opening costs the same however large it is.

    Raises:
      InputError: a file is missing or damaged, or they do not belong together.
    """
    folder = Path(folder)
    try:
        offsets, blob, ends = (np.load(folder / name, mmap_mode="r") for name in (_OFFSETS, _NAMES, _NAME_ENDS))
    except (OSError, ValueError) as error:
        raise InputError(f"The index in {folder} cannot be read ({error}): prepare the dataset anew.") from error
    right = [(offsets, np.int64), (blob, np.uint8), (ends, np.int64)]
    if (
        any(array.ndim != 1 or array.dtype != dtype for array, dtype in right)
        or len(offsets) != len(ends) + 1
        or offsets[0] != 0
        or (ends[-1] if len(ends) else 0) != len(blob)
    ):
        raise InputError(
            f"{_OFFSETS}, {_NAMES} and {_NAME_ENDS} in {folder} do not belong together: prepare the dataset anew."
        )
    return IdentityIndex(_MappedNames(blob, ends), offsets, folder)


class _Growing:
    """A one-dimensional .npy file that is written front to back, its length being told at the end."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._path = path
        self._dtype = dtype
        self.rows = 0

    def __enter__(self) -> _Growing:
        self._file: IO[bytes] = self._path.open("wb")
        self._header()
        return self

    def append(self, rows: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.rows += len(rows)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.seek(0)
            self._header()  # as long as the first: NumPy leaves room for a first axis that grows
        self._file.close()

    def _header(self) -> None:
        about = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self.rows,)}
        np.lib.format.write_array_header_1_0(self._file, about)


class _MappedNames(Sequence[str]):
    """Names decoded when asked for."""

    def __init__(self, blob: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._blob = blob
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        start = self._ends[place - 1] if place else 0
        return os.fsdecode(self._blob[start : self._ends[place]].tobytes())


def split_holdout(index: IdentityIndex, share: float, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits the identities into those to train on and those held out; no identity is in both.

    The held-out identities are the first of those with at least two faces in the order of a hash of their names, so a
    folder that grows keeps almost all of its held-out identities. Identities with a single face can only serve as
    negatives and always go to training.

    Args:
      index: the identities.
      share: the share of the identities with at least two faces to hold out, in [0, 1). A positive share holds out at
        least two identities (one alone has no pair of different identities) and leaves at least one to train on; where
        there are too few for both, none is held out.
      seed: chooses another split.

    Returns:
      (train, holdout), ascending int64 arrays of identity numbers.

    Raises:
      InputError: share is outside [0, 1).
    """
    if not 0 <= share < 1:
        raise InputError(f"The held-out share must be at least 0 and below 1, not {share}: lower it.")
    paired = np.flatnonzero(index.counts >= 2)
    held = min(max(2, round(share * len(paired))), len(paired) - 1) if share > 0 else 0
    key = (seed % 2**64).to_bytes(8, "little")

    def place(identity: int) -> int:
        name = os.fsencode(index.names[identity])
        return int.from_bytes(hashlib.blake2b(name, digest_size=16, key=key).digest()[:8])

    # Sixteen bytes an identity, for a microsecond or two.
    places = np.fromiter((place(int(identity)) for identity in paired if held >= 2), np.uint64)
    holdout = np.sort(paired[np.argsort(places, kind="stable")[:held]])
    trained_on = np.ones(len(index.names), bool)
    trained_on[holdout] = False
    return np.flatnonzero(trained_on), holdout
