"""Leaving out what a list names: identities by their names, faces by their places, one a line."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.names import raw
from facenet_jax.datasets.source import FaceSource, ListedFaces, Reader
from facenet_jax.errors import InputError
from facenet_jax.images.decode import BadFace, Reason


def read_list(path: str | os.PathLike[str], option: str) -> set[str]:
    """The lines of a list of what to leave out.

    Args:
      path: a text file; bytes that are no UTF-8 are kept as Python's surrogate escapes, as in `names.Names`, and the
        mark that some editors put before the first line is not taken for a part of it.
      option: that named it, for the error.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return set(Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")) - {""}
    except OSError as error:
        raise InputError(f"{option}={path} cannot be read ({error.strerror}): check the path.") from error


class Named(NamedTuple):
    """What the lines of a list name in a source.

    Attributes:
      identities: int64, ascending, those that are named.
      records: int64, ascending, the faces that are named by their places.
      unknown: the lines that name nothing, sorted.
    """

    identities: NDArray[np.int64]
    records: NDArray[np.int64]
    unknown: list[str]

    def some_unknown(self) -> str:
        """The first few unknown lines, for a message."""
        return ", ".join(self.unknown[:3])


def find_named(source: FaceSource, lines: set[str]) -> Named:
    """Finds the identities and faces that lines name; an identity's name is not looked for among the places."""
    identities = {number: name for number, name in enumerate(source.index.names) if name in lines}
    rest = lines - set(identities.values())
    records = {record: place for record, place in enumerate(source.places()) if place in rest} if rest else {}
    unknown = sorted(rest - set(records.values()))
    return Named(np.array(list(identities), np.int64), np.array(list(records), np.int64), unknown)


class WithoutFaces:
    """The faces of a source without some. Identities keep their numbers; one may have no face any more.

    Attributes:
      source: that it is made from.
      gone: int64 [faces], ascending, the records of the source that are left out.
      index: of the others, which are numbered from 0 again.
    """

    def __init__(self, source: FaceSource, gone: NDArray[np.int64]) -> None:
        self.source, self.gone = source, gone
        # How many of those that stay stand before each that is gone. Few are gone of however many there are.
        self._before = gone - np.arange(len(gone))
        whole = source.index
        self.index = IdentityIndex(whole.names, whole.offsets - np.searchsorted(gone, whole.offsets))

    @property
    def digest(self) -> str:
        """Of the source's digest, and of who is gone."""
        return hashlib.blake2b(self.source.digest.encode() + self.gone.tobytes(), digest_size=16).hexdigest()

    @property
    def ignored(self) -> int:
        """Of the source: see FaceSource."""
        return self.source.ignored

    def original(self, records: NDArray[np.int64]) -> NDArray[np.int64]:
        """The source's own numbers of records, int64 of the same shape."""
        return records + np.searchsorted(self._before, records, side="right")

    def load(self, record: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """One face's pixels, uint8 [rows, columns, 3]: see FaceSource."""
        return self.source.load(int(self.original(np.array(record))), size)

    def describe(self, record: int) -> str:
        """Where the face comes from."""
        return self.source.describe(int(self.original(np.array(record))))

    def places(self) -> Iterator[str]:
        """Of the faces that stay: see FaceSource."""
        stays = np.ones(self.source.index.records, bool)
        stays[self.gone] = False
        return itertools.compress(self.source.places(), stays)

    def __reduce__(self) -> tuple[Any, ...]:
        return WithoutFaces, (self.source, self.gone)


class RejectedFaces(ListedFaces):
    """The faces of a source to prepare, of which those that a list names cannot be read: `prepare` rejects, counts and
    lists them as such.

    Args:
      source: it is made from.
      lines: names of identities, and places of faces.

    Attributes:
      named: what the lines name.
    """

    def __init__(self, source: ListedFaces, lines: set[str]) -> None:
        self._source = source
        self.kind, self.root, self.index, self.ignored = source.kind, source.root, source.index, source.ignored
        self.named = find_named(source, lines)
        excluded = set(lines)
        for identity in self.named.identities.tolist():
            excluded.update(source.places(int(self.index.offsets[identity]), int(self.index.offsets[identity + 1])))
        digest = hashlib.blake2b(source.digest.encode(), digest_size=16)
        digest.update(b"\0".join(sorted(map(raw, lines))))
        self.digest = digest.hexdigest()
        self.reader = _RejectingReader(source.reader, frozenset(excluded))

    def places(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """Of the source: see ListedFaces."""
        return self._source.places(start, stop)


@dataclass(frozen=True)
class _RejectingReader:
    reader: Reader
    excluded: frozenset[str]

    def read(self, place: str) -> bytes:
        """See Reader."""
        if place in self.excluded:
            raise BadFace(Reason.EXCLUDED)
        return self.reader.read(place)
