"""The batch plan: which faces make up the batch of a step (section 3.2 of the paper).

The paper wants a minimal number of exemplars of each identity in every mini-batch, "around 40 faces are selected per
identity per mini-batch", adds randomly sampled negative faces, and uses batches "of around 1,800 exemplars".

The plan is a pure function of (seed, step): no generator is carried from batch to batch, so a run resumes at any step
and every host works out the same batch.

- An identity with n >= 2 faces gives c = min(faces_per_identity, n) faces at each of its visits. An epoch visits all
  such identities in a keyed order and cuts the sequence of their faces into equal batches; an identity that straddles a
  border is cut, the tail of the epoch is dropped. The sum of c is the same in every epoch, so epochs are equally long.
- On visit v (the epoch's number) an identity gives window v, positions v c, ..., v c + c - 1, of an endless
  sequence P_0 P_1 P_2 ... of orders of its own faces. So the faces of an identity are used equally often.
- Each batch is filled with random negatives, drawn uniformly from the faces not yet in it, those of identities with a
  single face included. They carry their true label.

No face is twice in a batch. A window that lies across the border of P_(k-1) and P_k takes the last r = k n mod c faces
of the old order and the first c - r of the new one; if those were independent they could meet. So P_k is the keyed
order Q_k in which those of its first c - r faces that are among the last r of P_(k-1) change places with the first
later faces that are not. Where n >= 2 c the exchange ends before the last (k + 1) n mod c faces of P_k, which are
therefore those of Q_k. Where c < n < 2 c it may not, and the orders are worked out from the last border at which
windows and orders meet (r = 0), fewer than c orders ago, each of fewer than 2 c faces. Where n = c nothing is to do.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from facenet_jax.data import hashing
from facenet_jax.data.index import IdentityIndex
from facenet_jax.errors import InputError

# What a number is drawn for, so that the same seed gives independent numbers to different ends.
_ORDER, _FACES, _NEGATIVES = 0x04DE4, 0xFACE5, 0x9E6A7

_EPOCHS_KEPT = 2


class PlannedBatch(NamedTuple):
    """The faces of one global batch.

    Attributes:
      records: int64 [size], no record twice.
      labels: int32 [size], the identity number of each.
    """

    records: NDArray[np.int64]
    labels: NDArray[np.int32]


class Plan(Protocol):
    """Anything that says which faces make up the batch of a step."""

    def batch(self, step: int) -> PlannedBatch:
        """The faces of global batch `step`."""
        ...


class _Epoch(NamedTuple):
    order: NDArray[np.int64]  # [visited identities], places in `visited`
    ends: NDArray[np.int64]  # [visited identities], faces up to and including each


class BatchPlan:
    """The plan of section 3.2.

    Attributes:
      batches_per_epoch: how many batches visit every identity once.
      size: faces in a batch.

    Args:
      index: the identities of the source.
      identities: ascending int64 identity numbers to train on; all of them where None.
      size: faces in a batch.
      faces_per_identity: faces of an identity at a visit, where it has that many.
      random_negatives: how many faces of the batch are drawn at random from all faces.
      seed: the run's seed.

    Raises:
      InputError: the values contradict each other, no identity has two faces, or there are fewer faces than a batch.
    """

    def __init__(
        self,
        index: IdentityIndex,
        identities: NDArray[np.int64] | None = None,
        *,
        size: int = 1800,
        faces_per_identity: int = 40,
        random_negatives: int = 200,
        seed: int = 0,
    ) -> None:
        if size < 4:
            raise InputError(f"batch.size is {size}, too few for triplets: raise it to at least 4.")
        if faces_per_identity < 2:
            raise InputError(
                f"batch.faces_per_identity is {faces_per_identity}, but an anchor needs a positive: "
                "raise it to at least 2."
            )
        if not 0 <= random_negatives <= size - 2:
            raise InputError(
                f"batch.random_negatives is {random_negatives} in a batch of {size}: "
                f"choose it between 0 and batch.size - 2 = {size - 2}."
            )
        chosen = np.arange(len(index.names)) if identities is None else np.asarray(identities)
        self._identities = chosen.astype(np.int64)
        self._offsets = index.offsets[self._identities]
        self._counts = index.offsets[self._identities + 1] - self._offsets
        self._faces_before = np.cumsum(self._counts) - self._counts
        self._faces = int(self._counts.sum())
        self._visited = np.flatnonzero(self._counts >= 2)
        self._given = np.minimum(self._counts[self._visited], faces_per_identity)
        self._anchors = size - random_negatives
        self.size = size
        self._quota = faces_per_identity
        self._random_negatives = random_negatives
        self._seed = seed
        if not len(self._visited):
            raise InputError(
                f"None of the {len(self._identities)} training identities has two faces, so there is no anchor with a "
                "positive: add faces of the same people, or hold out fewer identities."
            )
        if self._faces < size:
            raise InputError(
                f"The training identities have {self._faces} faces, fewer than one batch of {size}: "
                f"lower batch.size to at most {self._faces}."
            )
        given = int(self._given.sum())
        if given < self._anchors:
            raise InputError(
                f"The training identities with two faces or more give {given} faces an epoch at "
                f"{faces_per_identity} each or fewer, but a batch takes {self._anchors} "
                f"(batch.size {size} less batch.random_negatives {random_negatives}): "
                "lower batch.size, or raise batch.faces_per_identity or batch.random_negatives."
            )
        self.batches_per_epoch = given // self._anchors
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()
        self._lock = threading.Lock()

    def batch(self, step: int) -> PlannedBatch:
        """The faces of one global batch, those of an identity together and the random negatives last.

        Args:
          step: the global step, from 0.

        Returns:
          records int64 [size] and labels int32 [size].
        """
        epoch, place = divmod(step, self.batches_per_epoch)
        records, owners = self._visits(epoch, place * self._anchors, (place + 1) * self._anchors)
        negatives, negative_owners = self._negatives(step, records)
        return PlannedBatch(
            np.concatenate([records, negatives]),
            self._identities[np.concatenate([owners, negative_owners])].astype(np.int32),
        )

    def _visits(self, epoch: int, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        # Faces start, ..., stop - 1 of an epoch's sequence, and for each the place of its identity.
        order, ends = self._epoch(epoch)
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        visits = order[first : last + 1]
        owners, given = self._visited[visits], self._given[visits]
        begins = ends[first : last + 1] - given
        faces = np.empty(int(given.sum()), np.int64)
        whole = self._counts[owners] == given
        whole_rows = np.repeat(whole, given)
        faces[whole_rows] = self._whole_windows(owners[whole], given[whole], epoch)
        for begin, owner in zip(begins[~whole] - begins[0], owners[~whole], strict=True):
            window = self._window(int(owner), epoch)
            faces[begin : begin + len(window)] = window
        records = faces + np.repeat(self._offsets[owners], given)
        cut = slice(start - int(begins[0]), stop - int(begins[0]))
        return records[cut], np.repeat(owners, given)[cut]

    def _epoch(self, epoch: int) -> _Epoch:
        with self._lock:
            if epoch not in self._epochs:
                order = hashing.permutation(len(self._visited), self._seed, _ORDER, epoch)
                self._epochs[epoch] = _Epoch(order, np.cumsum(self._given[order]))
                while len(self._epochs) > _EPOCHS_KEPT:
                    self._epochs.popitem(last=False)
            return self._epochs[epoch]

    def _whole_windows(self, owners: NDArray[np.int64], counts: NDArray[np.int64], visit: int) -> NDArray[np.int64]:
        # Identities all of whose faces are given at every visit: the keyed orders of all of them in one sort.
        group = np.repeat(np.arange(len(owners)), counts)
        within = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
        keys = hashing.hash64(self._seed, _FACES, np.repeat(self._identities[owners], counts), visit, within)
        return within[np.lexsort((keys, group))]

    def _window(self, owner: int, visit: int) -> NDArray[np.int64]:
        # Window `visit` of an identity with more than c faces, int64 [c] in [0, n).
        n, c = int(self._counts[owner]), self._quota
        k, offset = divmod(visit * c, n)
        left = n - offset
        if left >= c:
            return np.array(self._orders(owner, k, k)[0][offset : offset + c])
        old, new = self._orders(owner, k, k + 1)
        return np.array(old[offset:] + new[: c - left])

    def _orders(self, owner: int, first: int, last: int) -> list[list[int]]:
        # P_first, ..., P_last, in lists: for few and short orders faster than arrays.
        n, c = int(self._counts[owner]), self._quota
        start = first - first % (c // math.gcd(n, c))
        if n >= 2 * c:
            start = max(start, first - 1)
        orders = self._keyed_orders(owner, np.arange(start, last + 1))
        for k in range(start + 1, last + 1):
            if r := k * n % c:
                orders[k - start] = _exchanged(orders[k - start], c - r, set(orders[k - start - 1][n - r :]))
        return orders[first - start :]

    def _keyed_orders(self, owner: int, ks: NDArray[np.int64]) -> list[list[int]]:
        # Q_k for all ks; a row is the permutation that hashing.permutation(n, seed, _FACES, identity, k) gives.
        within = np.arange(self._counts[owner])
        keys = hashing.hash64(self._seed, _FACES, self._identities[owner], ks[:, None], within)
        return np.argsort(keys, axis=1, kind="stable").tolist()

    def _negatives(self, step: int, taken: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        # The first distinct faces of an endless keyed sequence of draws that are not taken.
        wanted = self._random_negatives
        draws = 2 * wanted
        while True:
            faces = hashing.below(self._faces, self._seed, _NEGATIVES, step, np.arange(draws))
            owners = np.searchsorted(self._faces_before, faces, side="right") - 1
            records = self._offsets[owners] + faces - self._faces_before[owners]
            firsts = np.sort(np.unique(records, return_index=True)[1])
            firsts = firsts[~np.isin(records[firsts], taken)][:wanted]
            if len(firsts) == wanted:
                return records[firsts], owners[firsts]
            draws *= 2

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_epochs": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


def _exchanged(order: list[int], head: int, avoid: set[int]) -> list[int]:
    # The order in which those of the first `head` entries that are in `avoid` have changed places with the first later
    # entries that are not.
    order = list(order)
    later = head
    for place in range(head):
        if order[place] in avoid:
            while order[later] in avoid:
                later += 1
            order[place], order[later] = order[later], order[place]
            later += 1
    return order
