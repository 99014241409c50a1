"""Several sources as one."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.names import LazyNames
from facenet_jax.datasets.source import FaceSource


class MixedSource:
    """The identities and faces of the first source, then those of the second, and so on.

    Identities of different sources are different, also where they have the same name.

    Attributes:
      sources: in their order.
      index: of all together.
      borders: [sources + 1], the number here of each source's first identity, and how many there are in all.
    """

    def __init__(self, sources: Sequence[FaceSource]) -> None:
        self.sources = tuple(sources)
        self._first_records = [0, *itertools.accumulate(source.index.records for source in sources)]
        offsets = [
            source.index.offsets[1:] + first for source, first in zip(sources, self._first_records, strict=False)
        ]
        names = _ChainedNames([source.index.names for source in sources])
        self.index = IdentityIndex(names, np.concatenate([np.zeros(1, np.int64), *offsets]))
        self.borders = [0, *itertools.accumulate(len(source.index.names) for source in sources)]

    @property
    def digest(self) -> str:
        """Of the sources' digests, in their order."""
        return hashlib.blake2b(" ".join(source.digest for source in self.sources).encode(), digest_size=16).hexdigest()

    @property
    def ignored(self) -> int:
        """Of all sources together: see FaceSource."""
        return sum(source.ignored for source in self.sources)

    def load(self, record: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """One face's pixels, uint8 [rows, columns, 3]: see FaceSource."""
        source, record = self._of(record)
        return source.load(record, size)

    def describe(self, record: int) -> str:
        """Where the face comes from."""
        source, record = self._of(record)
        return source.describe(record)

    def places(self) -> Iterator[str]:
        """Those of the sources, one after another: see FaceSource."""
        return itertools.chain.from_iterable(source.places() for source in self.sources)

    def _of(self, record: int) -> tuple[FaceSource, int]:
        number = bisect.bisect_right(self._first_records, record) - 1
        return self.sources[number], record - self._first_records[number]


def sources_of(source: FaceSource) -> tuple[FaceSource, ...]:
    """The sources of a mixture, or the one source itself."""
    return source.sources if isinstance(source, MixedSource) else (source,)


class _ChainedNames(LazyNames):
    """Sequences one after another, without a copy."""

    def __init__(self, parts: Sequence[Sequence[str]]) -> None:
        self._parts = parts
        self._starts = [0, *itertools.accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def name(self, number: int) -> str:
        """See LazyNames."""
        part = bisect.bisect_right(self._starts, number) - 1
        return self._parts[part][number - self._starts[part]]
