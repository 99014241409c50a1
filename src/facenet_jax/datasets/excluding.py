"""A source to prepare, of which some faces are passed over because a list names them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from facenet_jax.datasets.names import raw
from facenet_jax.datasets.sources import Reader, Source
from facenet_jax.images.decode import BadFace, Reason

_BLOCK = 65_536  # places listed together


@dataclass(frozen=True)
class _Reader:
    reader: Reader
    excluded: frozenset[str]

    def read(self, place: str) -> bytes:
        """See Reader."""
        if place in self.excluded:
            raise BadFace(Reason.EXCLUDED)
        return self.reader.read(place)


class Excluding:
    """A source whose excluded faces cannot be read: they are rejected, counted and listed as such.

    Args:
      source: it is made from.
      lines: names of identities, and places of faces.

    Attributes:
      unknown: the lines that are neither an identity's name nor a face's place, sorted.
    """

    def __init__(self, source: Source, lines: set[str]) -> None:
        self._source = source
        self.kind, self.names, self.offsets, self.ignored = source.kind, source.names, source.offsets, source.ignored
        excluded = set(lines)
        others = set(lines)
        for identity, name in enumerate(source.names):
            if name in lines:
                others.discard(name)
                excluded.update(source.places(int(self.offsets[identity]), int(self.offsets[identity + 1])))
        self.unknown = _unknown(source, others)
        digest = hashlib.blake2b(source.digest.encode(), digest_size=16)
        digest.update(b"\0".join(sorted(map(raw, lines))))
        self.digest = digest.hexdigest()
        self.reader: Reader = _Reader(source.reader, frozenset(excluded))

    def places(self, start: int, stop: int) -> list[str]:
        """See Source."""
        return self._source.places(start, stop)


def _unknown(source: Source, lines: set[str]) -> list[str]:
    """Those lines that are no face's place, sorted."""
    left, faces = set(lines), int(source.offsets[-1])
    for start in range(0, faces, _BLOCK):
        if not left:
            break
        left.difference_update(source.places(start, min(start + _BLOCK, faces)))
    return sorted(left)
