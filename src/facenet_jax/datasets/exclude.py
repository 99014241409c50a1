"""Leaves out the identities and faces that a list names, one a line."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.names import comparable, is_text, raw
from facenet_jax.datasets.source import FaceSource, ListedFaces, Reader
from facenet_jax.errors import InputError
from facenet_jax.images.decode import BadFace, Reason
from facenet_jax.runtime.files import read_text

# What stands around a name in a list that was copied from elsewhere.
_AROUND = " \t\"'"


def read_list(path: str | os.PathLike[str], option: str) -> set[str]:
    """The lines of a list of what to leave out.

    Args:
      path: a text file; bytes that are not UTF-8 are kept as Python's surrogate escapes, as in `names.Names`, and the
        mark that some editors put before the first line is not taken for a part of it.
      option: that named it, for the error.

    Raises:
      InputError: it cannot be read, or is UTF-16.
    """
    return set(read_text(path, f"{option}={path}", keep_bytes=True).split("\n")) - {""}


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
        return ", ".join(line[:100] for line in self.unknown[:3])


def find_named(source: FaceSource, lines: set[str], where: str = "the list") -> Named:
    """Finds the identities and faces that lines name, whichever Unicode form either has.

    Args:
      source: of the faces.
      lines: an identity's name is not looked for among the places.
      where: the lines stand, for the error.

    Raises:
      InputError: a line that names nothing is not UTF-8, or is the name of an identity or the place of a face but for
        case, blanks, quotes, the kind of slash or a folder before it: somebody who was to be left out would stay.
    """
    wanted = {comparable(line): line for line in lines}
    identities = _find(source.index.names, wanted)
    records = _find(source.places(), wanted) if wanted else np.empty(0, np.int64)
    unknown = sorted(wanted.values())
    _check_unknown(source, unknown, where)
    return Named(identities, records, unknown)


def _find(names: Iterable[str], wanted: dict[str, str]) -> NDArray[np.int64]:
    """The numbers of the names that are wanted, which are taken out of these."""
    found = [(number, name) for number, name in enumerate(map(comparable, names)) if name in wanted]
    for _, name in found:
        wanted.pop(name, None)
    return np.array([number for number, _ in found], np.int64)


def _check_unknown(source: FaceSource, unknown: list[str], where: str) -> None:
    for line in unknown:
        if not is_text(line):
            raise InputError(
                f"{where}: the line {raw(line)[:100]!r} is not UTF-8 and names nothing; save the list as UTF-8."
            )
    if not unknown:
        return
    for kind, names, forms in (("identity", source.index.names, _as_identity), ("face", source.places(), _as_face)):
        loose = {form: line for line in unknown for form in forms(_loosely(line)) if form}
        for name in names:
            if (meant := loose.get(_loosely(name))) is not None:
                raise InputError(
                    f"{where}: the line {meant!r:.200} names nobody, and there is the {kind} {name!r}; write it as "
                    "that is, or take the line out."
                )


def _as_identity(line: str) -> set[str]:
    """Which names a line may have been meant for: itself, or what follows a folder."""
    return {line, line.rpartition("/")[2]}


def _as_face(line: str) -> set[str]:
    """Which places a line may have been meant for: itself, what follows a folder, or a table's first column."""
    first = re.split("[,;\t]", line)[0].strip(_AROUND)
    return {line, first, *("/".join(one.split("/")[-2:]) for one in (line, first))}


def _loosely(name: str) -> str:
    """A name without what a person does not see or means no difference by: case, blanks, quotes, kinds of slashes."""
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
        name = "".join(character for character in name if unicodedata.category(character) != "Cf")
    return name.casefold().replace("\\", "/").strip(_AROUND).removeprefix("./").rstrip("/*")


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
      lines, where: see `find_named`.

    Attributes:
      named: what the lines name.
    """

    def __init__(self, source: ListedFaces, lines: set[str], where: str) -> None:
        self._source = source
        self.kind, self.root, self.index, self.ignored = source.kind, source.root, source.index, source.ignored
        self.passed_over, self.without_images = dict(source.passed_over), source.without_images
        self.named = find_named(source, lines, where)
        excluded = {source.place(record) for record in self.named.records.tolist()}
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
