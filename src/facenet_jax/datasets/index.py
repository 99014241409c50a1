"""Maps identities to records, and says which identities are held out."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.names import comparable
from facenet_jax.errors import InputError


@dataclass(frozen=True, eq=False)
class IdentityIndex:
    """The identities of a source, each with a run of consecutive records.

    Attributes:
      names: one name an identity; an identity's label is its place in this sequence.
      offsets: int64 [identities + 1]; the records of identity i are offsets[i], ..., offsets[i + 1] - 1. Mapped from a
        file, they are mapped again where the index is unpickled, instead of copied.
    """

    names: Sequence[str]
    offsets: NDArray[np.int64]

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
        return self.offsets.searchsorted(records, side="right") - 1

    def records_of(self, identities: NDArray[np.int64]) -> NDArray[np.int64]:
        """All records of the given identities, int64 [faces], in the order of the identities."""
        starts = self.offsets[identities]
        counts = self.offsets[identities + 1] - starts
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(starts, counts) + within

    def __reduce__(self) -> tuple[Callable[..., IdentityIndex], tuple[Any, ...]]:
        if isinstance(self.offsets, np.memmap):
            return _mapped, (self.names, self.offsets.filename)
        return IdentityIndex, (self.names, self.offsets)


def _mapped(names: Sequence[str], file: str) -> IdentityIndex:
    return IdentityIndex(names, np.load(file, mmap_mode="r"))


def split_holdout(index: IdentityIndex, share: float, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits the identities into those to train on and those held out; no identity is in both.

    The held-out identities are the first of those with at least two faces in the order of a hash of their names, in
    one Unicode form, so a folder that grows keeps almost all of its held-out identities, and equal names of two
    datasets stay together.
    Identities with a single face can only serve as negatives and always go to training.

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
    paired = np.diff(index.offsets) >= 2
    pairs = int(np.count_nonzero(paired))
    held = min(max(2, round(share * pairs)), pairs - 1) if share > 0 else 0
    if held < 2:
        return np.arange(len(paired)), np.empty(0, np.int64)
    key = (seed % 2**64).to_bytes(8, "little")

    def place(name: str) -> int:
        return int.from_bytes(hashlib.blake2b(os.fsencode(comparable(name)), digest_size=16, key=key).digest()[:8])

    # Eight bytes an identity, for a microsecond or two.
    places = np.fromiter(map(place, itertools.compress(index.names, paired)), np.uint64, pairs)
    chosen = places <= np.partition(places, held - 1)[held - 1]
    holdout = np.flatnonzero(paired)[chosen]
    trained_on = np.ones(len(paired), bool)
    trained_on[holdout] = False
    return np.flatnonzero(trained_on), holdout
