"""Batches made from a table of hard faces (offline selection, section 3.2).

Every n steps training finds, in a subset of the data, the hardest positives and the nearest negatives of each face.
Until the next table the batches are a pure function of (seed, step, table): a run resumed with the saved table
meets the same batches, on any number of hosts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.input.plan import BatchPlan, Plan
from facenet_jax.input.visits import PlannedFaces
from facenet_jax.runtime import hashing

# What a number is drawn for; others than the batch plan's.
_ANCHORS, _TRIPLETS = 0xA4C08, 0x781B1E7


@dataclass(frozen=True, eq=False)
class HardTable:
    """The hard faces of a subset, as record numbers; -1 where there is none.

    Attributes:
      step: how many steps had been taken when it was made.
      anchors: int64 [A].
      positives: int64 [A, P], the hardest first.
      negatives: int64 [A, N], the nearest first.
    """

    step: int
    anchors: NDArray[np.int64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]


def subset(plan: BatchPlan, faces: int, step: int) -> NDArray[np.int64]:
    """The faces that a table is made from: those that the plan's next batches visit.

    Args:
      plan: of the run.
      faces: how many at least, where an epoch visits that many.
      step: that of the table: another step gives another subset.

    Returns:
      int64 records, ascending.
    """
    chosen = np.empty(0, np.int64)
    for number in range(step, step + plan.batches_per_epoch):
        chosen = np.union1d(chosen, plan.batch(number).records[: plan.anchors])
        if len(chosen) >= faces:
            break
    return chosen


class _Orders:
    """Keyed orders of n things, one a pass; the last one is kept."""

    def __init__(self, n: int, *words: int) -> None:
        self._n, self._words = n, words
        self._kept: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __call__(self, number: int) -> NDArray[np.int64]:
        kept = self._kept
        if kept[0] != number:
            kept = self._kept = (number, hashing.permutation(self._n, *self._words, number))
        return kept[1]


class MixedPlan:
    """Batches of which some rows come from another plan and the others from a table.

    The table's anchors come in a keyed order, each with its hard positives and negatives, and a face that is in the
    batch already is passed over. Selection within the batch then finds hard triplets among them.

    Args:
      plan: gives the first rows of each batch.
      table: gives the others.
      rows: how many others. Fewer come where the table has no more faces.
      index: of the source.
      seed: the run's.
    """

    def __init__(self, plan: Plan, table: HardTable, rows: int, index: IdentityIndex, seed: int) -> None:
        self._plan = plan
        self._table = table
        self._rows = rows
        self._index = index
        self._orders = _Orders(len(table.anchors), seed, _ANCHORS, table.step)
        self._groups = np.concatenate([table.anchors[:, None], table.positives, table.negatives], axis=1)

    def batch(self, step: int) -> PlannedFaces:
        """The faces of global batch `step`, at or after the table's step; those from the table last."""
        planned = self._plan.batch(step)
        taken = set(planned.records.tolist())
        hard: list[int] = []
        anchors, size = self._groups.shape
        first = (step - self._table.step) * max(1, self._rows // size)
        for place in range(first, first + anchors):
            number, within = divmod(place, anchors)
            for record in self._groups[self._orders(number)[within]].tolist():
                if record >= 0 and record not in taken and len(hard) < self._rows:
                    taken.add(record)
                    hard.append(record)
            if len(hard) == self._rows:
                break
        records = np.array(hard, np.int64)
        labels = self._index.identity_of(records).astype(np.int32)
        return PlannedFaces(np.concatenate([planned.records, records]), np.concatenate([planned.labels, labels]))


class TripletPlan:
    """Batches that are triplets of a table, anchor, positive, negative in turn: offline selection alone.

    A pass takes every triplet (an anchor with each of its positives and each of its negatives) once, in a keyed order;
    a batch may hold a face in several triplets.

    Args:
      table: of hard faces.
      size: rows of a batch; the last one or two stay empty where 3 does not divide it.
      index: of the source.
      seed: the run's.
    """

    def __init__(self, table: HardTable, size: int, index: IdentityIndex, seed: int) -> None:
        self._table = table
        self._triplets = size // 3
        self._index = index
        positives = table.positives[:, :, None] >= 0
        self._entries = np.flatnonzero(positives & (table.negatives[:, None, :] >= 0))
        self._orders = _Orders(len(self._entries), seed, _TRIPLETS, table.step)

    def batch(self, step: int) -> PlannedFaces:
        """The faces of global batch `step`, at or after the table's step."""
        table = self._table
        places = (step - table.step) * self._triplets + np.arange(self._triplets)
        passes, within = np.divmod(places, len(self._entries))
        entries = np.empty(len(places), np.int64)
        for number in np.unique(passes):
            entries[passes == number] = self._entries[self._orders(int(number))[within[passes == number]]]
        shape = (*table.positives.shape, table.negatives.shape[1])
        anchor, positive, negative = np.unravel_index(entries, shape)
        chosen = [table.anchors[anchor], table.positives[anchor, positive], table.negatives[anchor, negative]]
        records = np.stack(chosen, axis=1).ravel()
        return PlannedFaces(records, self._index.identity_of(records).astype(np.int32))
