"""Finds files with the same bytes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Sorted at a time, so that 200 million digests need not be.
_AT_ONCE = 2**24
_BLOCK = 2**20


class Copies(NamedTuple):
    """Records whose bytes an earlier record has.

    Attributes:
      records: int64 [copies], ascending.
      originals: int64 [copies], the first record with the same bytes: of the same identity, if it has one.
      within: bool [copies], whether that is of the same identity.
    """

    records: NDArray[np.int64]
    originals: NDArray[np.int64]
    within: NDArray[np.bool_]


def find_copies(contents: NDArray[np.uint8], offsets: NDArray[np.int64], at_once: int = _AT_ONCE) -> Copies:
    """Finds records with the same bytes.

    Args:
      contents: uint8 [records, 16], digests; may be memory-mapped.
      offsets: int64 [identities + 1], the records of each identity.
      at_once: how many digests are sorted at a time, about.
    """
    records, originals, within = [], [], []
    buckets = min(256, -(-len(contents) // at_once))
    for bucket in range(buckets):
        chosen = _bucket(contents, bucket, buckets)
        words = np.ascontiguousarray(contents[chosen]).view("<u8")
        order = np.lexsort((chosen, words[:, 1], words[:, 0]))
        chosen, words = chosen[order], words[order]
        same = (words[1:] == words[:-1]).all(1)
        if not same.any():
            continue
        # Runs of the same digest, without those of one.
        run = np.concatenate([[0], np.cumsum(~same)])
        sizes = np.bincount(run)
        several = sizes[run] > 1
        group, record = run[several], chosen[several]
        identity = np.searchsorted(offsets, record, side="right") - 1
        # Records ascend within a run and identities with them, so an identity's copies are neighbours.
        new_group = np.concatenate([[True], group[1:] != group[:-1]])
        new_identity = new_group | np.concatenate([[True], identity[1:] != identity[:-1]])
        first_of_group = record[np.flatnonzero(new_group)[np.cumsum(new_group) - 1]]
        first_of_identity = record[np.flatnonzero(new_identity)[np.cumsum(new_identity) - 1]]
        records.append(record[~new_group])
        within.append(~new_identity[~new_group])
        originals.append(np.where(new_identity, first_of_group, first_of_identity)[~new_group])
    if not records:
        return Copies(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))
    order = np.argsort(np.concatenate(records))
    return Copies(*(np.concatenate(part)[order] for part in (records, originals, within)))


def _bucket(contents: NDArray[np.uint8], bucket: int, buckets: int) -> NDArray[np.int64]:
    if buckets == 1:
        return np.arange(len(contents), dtype=np.int64)
    return np.concatenate(
        [
            first + np.flatnonzero(contents[first : first + _BLOCK, 0].astype(np.int64) * buckets // 256 == bucket)
            for first in range(0, len(contents), _BLOCK)
        ]
    )
