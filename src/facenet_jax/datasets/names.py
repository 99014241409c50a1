"""Names of identities, read from disk when asked for, so that eight million take no memory."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError
from facenet_jax.runtime.files import ArrayWriter, map_array

_BLOCK = 65_536


class LazyNames(Sequence[str]):
    """A sequence of strings that are found when asked for: subclasses say how many, and give the one of a number.

    A list of millions would take hundreds of megabytes in every worker.
    """

    def name(self, number: int) -> str:
        """The name of a number in [0, len)."""
        raise NotImplementedError

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str]:
        numbers = range(len(self))[number]
        return [self.name(one) for one in numbers] if isinstance(numbers, range) else self.name(numbers)


class Names(LazyNames):
    """A sequence of strings in two files: `<stem>.txt`, their UTF-8 bytes one after another, and `<stem>.npy`, int64
    [names + 1], where each begins. Bytes of file names that are not UTF-8 come back as Python's surrogate escapes.

    Both are memory-mapped; pickled, only the path travels.

    Args:
      stem: the path of the two files without their suffixes.

    Raises:
      OSError, ValueError: they are missing or do not belong together.
    """

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self._starts: NDArray[np.int64] = map_array(Path(f"{stem}.npy"))
        text = Path(f"{stem}.txt")
        size = text.stat().st_size
        if self._starts.dtype != np.int64 or self._starts.ndim != 1 or not len(self._starts):
            raise ValueError(f"{stem}.npy does not hold the beginnings of names")
        if int(self._starts[-1]) != size:
            raise ValueError(f"{text} has {size} bytes where {stem}.npy has {int(self._starts[-1])}")
        # An empty file cannot be mapped.
        self._bytes: NDArray[np.uint8] = np.memmap(text, np.uint8, "r") if size else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def name(self, number: int) -> str:
        """See LazyNames."""
        return text(self._bytes[self._starts[number] : self._starts[number + 1]].tobytes())

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _BLOCK):
            starts = self._starts[first : first + _BLOCK + 1].tolist()
            block = self._bytes[starts[0] : starts[-1]].tobytes()
            for start, stop in itertools.pairwise(starts):
                yield text(block[start - starts[0] : stop - starts[0]])

    def __reduce__(self) -> tuple[Any, ...]:
        return Names, (self._stem,)


def write_names(stem: Path, names: Iterable[str], count: int) -> None:
    """Writes what `Names` reads.

    Args:
      stem: the path of the two files without their suffixes.
      names: the names, in order.
      count: how many there are.
    """
    size = 0
    supply = iter(names)
    with (
        ArrayWriter(Path(f"{stem}.npy"), np.int64, (count + 1,)) as starts,
        Path(f"{stem}.txt").open("wb") as file,
    ):
        starts.append(np.zeros(1, np.int64))
        while block := [raw(name) for name in itertools.islice(supply, _BLOCK)]:
            ends = size + np.cumsum([len(name) for name in block], dtype=np.int64)
            starts.append(ends)
            file.write(b"".join(block))
            size = int(ends[-1])


def comparable(name: str) -> str:
    """The form in which names are compared: Unicode's composed one (NFC). Two that look the same to a person are equal
    in it, such as `é` in one character and in two; a name is written as it came.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def check_distinct(names: Sequence[str], where: str) -> None:
    """That no two identities have names that look the same to a person: one person would be two.

    Raises:
      InputError: two differ only in how Unicode writes an accent, or in blanks.
    """
    unusual: dict[str, str] = {}  # of millions of names, those that another may look like
    for name in names:
        if (looks := _as_it_looks(name)) != name:
            _check_same(unusual.setdefault(looks, name), name, where)
    for name in names if unusual else ():
        if name in unusual:
            _check_same(unusual[name], name, where)


def _as_it_looks(name: str) -> str:
    return " ".join(comparable(name).split())


def _check_same(one: str, other: str, where: str) -> None:
    if one != other:
        accents = comparable(one) == comparable(other)
        raise InputError(
            f"{where} has two identities that are both called {other!r} and differ only in "
            f"{'how Unicode writes an accent' if accents else 'blanks'}: give one of them another name, or put their "
            "faces together if they are one person."
        )


def text(name: bytes) -> str:
    """A name's characters, bytes that are not UTF-8 escaped."""
    return name.decode("utf-8", "surrogateescape")


def is_text(name: str) -> bool:
    """Whether it has no escaped bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def raw(name: str) -> bytes:
    """A name's bytes, escapes undone."""
    return name.encode("utf-8", "surrogateescape")


def join_names(names: Iterable[str]) -> NDArray[np.uint8]:
    """Names as an array of bytes, for an archive of arrays: NumPy's own strings would lose bytes that are not UTF-8."""
    # No path has a NUL in it, and one that does cannot be read.
    return np.frombuffer(b"".join(raw(name.replace("\0", "\\0")) + b"\0" for name in names), np.uint8)


def split_names(joined: NDArray[np.uint8]) -> list[str]:
    """What `join_names` joined."""
    return [text(name) for name in joined.tobytes().split(b"\0")[:-1]]
