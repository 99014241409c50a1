"""Stores distances exactly as sorted values with their counts.

A float32 has about eight million values between one power of two and the next, so the distances of any number of pairs
take at most about 100 MB per octave in this form, without loss.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


class DistanceCounts:
    """A multiset of float32 numbers.

    Attributes:
      values: float32 [distinct], ascending.
      within: int64 [distinct]; entry i says how many numbers are <= values[i].
    """

    def __init__(self, numbers: ArrayLike = ()) -> None:
        """Counts an array of any shape."""
        self.values, counts = _count(np.asarray(numbers, np.float32).ravel())
        self.within = np.cumsum(counts)

    @classmethod
    def merged(cls, several: Sequence[DistanceCounts]) -> DistanceCounts:
        """The sum of several."""
        result = cls()
        values = np.concatenate([one.values for one in several])
        counts = np.concatenate([one.counts for one in several])
        order = np.argsort(values, kind="stable")
        values, counts = values[order], counts[order]
        first = _firsts(values)
        result.values = values[first]
        result.within = np.cumsum(np.add.reduceat(counts, first)) if len(first) else counts
        return result

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 [distinct], how often each value occurs."""
        return np.diff(self.within, prepend=0)

    def __len__(self) -> int:
        return int(self.within[-1]) if len(self.within) else 0

    def below(self, bounds: ArrayLike) -> NDArray[np.int64]:
        """How many numbers are < each bound."""
        return self._upto(np.searchsorted(self.values, np.asarray(bounds, np.float32), side="left"))

    def at_most(self, bounds: ArrayLike) -> NDArray[np.int64]:
        """How many numbers are <= each bound."""
        return self._upto(np.searchsorted(self.values, np.asarray(bounds, np.float32), side="right"))

    def nth(self, rank: ArrayLike) -> NDArray[np.float32]:
        """The number at each rank, counted from 0 in ascending order; infinity beyond the last."""
        place = np.searchsorted(self.within, np.asarray(rank, np.int64), side="right")
        return np.append(self.values, np.float32(np.inf))[place]

    def _upto(self, place: NDArray[np.intp]) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(1, np.int64), self.within])[place]


class DistanceCounter:
    """Collects arrays from several threads into DistanceCounts, with at most a buffer of numbers uncounted."""

    def __init__(self, buffer: int = 2**25) -> None:
        """Starts empty; up to `buffer` numbers are held before they are counted."""
        self._buffer = buffer
        self._lock = threading.Lock()
        self._parts: list[NDArray[np.float32]] = []
        self._held = 0
        self._counted = DistanceCounts()

    def add(self, numbers: NDArray[np.float32]) -> None:
        """Adds an array that is not changed afterwards."""
        with self._lock:
            self._parts.append(numbers)
            self._held += len(numbers)
            if self._held < self._buffer:
                return
            waiting, self._parts, self._held = self._parts, [], 0
        self._count(waiting)

    def counts(self) -> DistanceCounts:
        """All that was added, once no thread adds any more."""
        self._count(self._parts)
        self._parts, self._held = [], 0
        return self._counted

    def _count(self, waiting: list[NDArray[np.float32]]) -> None:
        if waiting:
            fresh = DistanceCounts(np.concatenate(waiting))  # the slow part, while others go on adding
            with self._lock:
                self._counted = DistanceCounts.merged([self._counted, fresh]) if len(self._counted) else fresh


def _count(numbers: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    numbers = np.sort(numbers)
    first = _firsts(numbers)
    return numbers[first], np.diff(first, append=len(numbers)).astype(np.int64)


def _firsts(ascending: NDArray[np.float32]) -> NDArray[np.intp]:
    """Where each distinct value stands first."""
    new = np.ones(len(ascending), bool)
    np.not_equal(ascending[1:], ascending[:-1], out=new[1:])
    return np.flatnonzero(new)
