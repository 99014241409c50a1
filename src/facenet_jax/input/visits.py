"""The order in which the faces of a set of identities are visited.

- An identity with n >= min_faces faces gives c = min(faces_per_identity, n) of them at each of its visits. An epoch
  visits all such identities once, in a keyed order. The sum of c is the same in every epoch, so all are equally long.
- On visit v (the epoch's number) an identity gives window v, positions v c, ..., v c + c - 1, of an endless
  sequence P_0 P_1 P_2 ... of orders of its own faces. So the faces of an identity are used equally often.

No face is twice in a window. One that lies across the border of P_(k-1) and P_k takes the last r = k n mod c faces
of the old order and the first c - r of the new one; if those were independent they could meet. So P_k is the keyed
order Q_k in which those of its first c - r faces that are among the last r of P_(k-1) change places with the first
later faces that are not. At most r faces are to be avoided, so the exchange ends within the first c faces of P_k. Where
n >= 2 c the last (k + 1) n mod c are therefore those of Q_k, and a window needs no more than 2 c faces of Q_(k-1) and
Q_k, each of which is worked out alone (`hashing.permuted`): an identity of ten thousand faces costs no more than one of
a hundred. Where c < n < 2 c the orders are worked out whole from the last border at which windows and orders meet
(r = 0), fewer than c orders ago, each of fewer than 2 c faces. Where n = c nothing is to do.

Where identities are capped at m faces, n above is at most m: of more, N, those at places (j N + s) // m for
j = 0, ..., m - 1 are used, spread evenly over the identity from a keyed start s in [0, N). Each face is among them with
probability m / N, and which are is known without sorting N of them.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.runtime import hashing

# What a number is drawn for, so that the same seed gives independent numbers to different ends.
_ORDER, _FACES = 0x04DE4, 0xFACE5

_EPOCHS_KEPT = 2
_BLOCK = 2**20  # identities looked at at once while the arrays of all are filled


class PlannedFaces(NamedTuple):
    """Some faces of a source, in order.

    Attributes:
      records: int64 [faces].
      labels: int32 [faces], the identity number of each.
    """

    records: NDArray[np.int64]
    labels: NDArray[np.int32]


class _Epoch(NamedTuple):
    order: NDArray[Any]  # [visited identities], places in `_visited`
    ends: NDArray[Any]  # [visited identities], faces up to and including each


class Visits:
    """Epoch after epoch of visits to a set of identities; the faces of a visit are worked out when asked.

    Attributes:
      identities: how many there are.
      faces: how many faces they have.
      given: how many faces an epoch gives.
      fewest_given: how many faces a visit gives at least.

    Args:
      index: the identities of the source.
      identities: ascending int64 identity numbers.
      faces_per_identity: faces of an identity at a visit, where it has that many.
      min_faces: identities with fewer are not visited; 2 or more.
      seed: the run's seed.
      number: sets of identities with different numbers are visited in independent orders.
    """

    def __init__(
        self,
        index: IdentityIndex,
        identities: NDArray[np.int64],
        *,
        faces_per_identity: int,
        min_faces: int = 2,
        seed: int = 0,
        number: int = 0,
    ) -> None:
        self._index = index
        self._quota = faces_per_identity
        self._seed = seed
        self._number = number
        # With millions of identities these arrays are what the plan weighs, so they are as narrow as can be.
        self.identities = len(identities)
        self._identities = np.empty(len(identities), np.int32)
        self._ends = np.empty(len(identities), _holding(index.records))
        visited, given = [], []
        self.faces = 0
        for first in range(0, len(identities), _BLOCK):
            block = slice(first, first + _BLOCK)
            self._identities[block] = some = identities[block]
            counts = self._counts(some)
            self._ends[block] = ends = self.faces + np.cumsum(counts)
            self.faces = int(ends[-1])
            enough = counts >= min_faces
            visited.append(some[enough].astype(np.int32))
            given.append(np.minimum(counts[enough], faces_per_identity).astype(np.min_scalar_type(faces_per_identity)))
        self._visited = np.concatenate([np.empty(0, np.int32), *visited])
        self._given = np.concatenate([np.empty(0, np.uint8), *given])
        self.given = int(self._given.sum(dtype=np.int64))
        self.fewest_given = int(self._given.min(initial=faces_per_identity))
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()
        self._lock = threading.Lock()

    def between(self, epoch: int, start: int, stop: int) -> PlannedFaces:
        """Faces start, ..., stop - 1 of an epoch, 0 <= start < stop <= given, those of an identity together."""
        order, ends = self._epoch(epoch)
        first, last = np.searchsorted(ends, np.array([start, stop - 1], ends.dtype), side="right")
        visits = order[first : last + 1]
        owners, given = self._visited[visits].astype(np.int64), self._given[visits].astype(np.int64)
        counts = self._counts(owners)
        begins = ends[first : last + 1].astype(np.int64) - given
        places = np.empty(int(given.sum()), np.int64)
        whole, long = counts == given, counts >= 2 * self._quota
        whole_rows, long_rows = np.repeat(whole, given), np.repeat(long, given)
        places[whole_rows] = self._whole_windows(owners[whole], given[whole], epoch)
        places[long_rows] = self._long_windows(owners[long], counts[long], epoch)
        short = ~whole & ~long
        for begin, owner, n in zip(begins[short] - begins[0], owners[short], counts[short], strict=True):
            window = self._short_window(int(owner), int(n), epoch)
            places[begin : begin + len(window)] = window
        cut = slice(start - int(begins[0]), stop - int(begins[0]))
        return self._at(np.repeat(owners, given)[cut], places[cut])

    def numbered(self, faces: NDArray[np.int64]) -> PlannedFaces:
        """Faces by their numbers in [0, self.faces): the identities' one after another."""
        places = np.searchsorted(self._ends, faces.astype(self._ends.dtype), side="right")
        before = np.where(places > 0, self._ends[places - 1], 0).astype(np.int64)
        return self._at(self._identities[places].astype(np.int64), faces - before)

    def _counts(self, owners: NDArray[np.int64]) -> NDArray[np.int64]:
        # How many faces identities have.
        return self._index.offsets[owners + 1] - self._index.offsets[owners]

    def _at(self, owners: NDArray[np.int64], places: NDArray[np.int64]) -> PlannedFaces:
        # Of identities the faces at places below `_counts`.
        return PlannedFaces(self._index.offsets[owners] + places, owners.astype(np.int32))

    def _epoch(self, epoch: int) -> _Epoch:
        with self._lock:
            if epoch not in self._epochs:
                while len(self._epochs) >= _EPOCHS_KEPT:
                    self._epochs.popitem(last=False)
                order = hashing.permutation(len(self._visited), self._seed, _ORDER + self._number, epoch)
                order = order.astype(_holding(len(order)))
                self._epochs[epoch] = _Epoch(order, np.cumsum(self._given[order], dtype=_holding(self.given)))
            return self._epochs[epoch]

    def _whole_windows(self, owners: NDArray[np.int64], counts: NDArray[np.int64], visit: int) -> NDArray[np.int64]:
        # Identities all of whose faces are given at every visit: the keyed orders of all of them in one sort.
        group = np.repeat(np.arange(len(owners)), counts)
        within = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
        keys = hashing.hash64(self._seed, _FACES, np.repeat(owners, counts), visit, within)
        return within[np.lexsort((keys, group))]

    def _long_windows(self, owners: NDArray[np.int64], counts: NDArray[np.int64], visit: int) -> NDArray[np.int64]:
        # Windows `visit` of identities with n >= 2 c faces, int64 [identities * c]. All that a window can depend on is
        # 2 c places of Q_0 Q_1 Q_2 ...: its own and, behind a border with r > 0, those of the window before.
        c = self._quota
        border = (visit * c + c - 1) // counts * counts
        r = border % c
        first = np.where((r > 0) & (border > (visit - 1) * c), border - r, visit * c)
        k, places = np.divmod(first[:, None] + np.arange(2 * c), counts[:, None])
        numbers = hashing.permuted(places, counts[:, None], self._seed, _FACES, owners[:, None], k)
        windows = np.empty((len(owners), c), np.int64)
        for row, (begin, tail, at) in enumerate(
            zip((visit * c - first).tolist(), r.tolist(), border - first, strict=True)
        ):
            faces = numbers[row].tolist()
            if at == tail > 0:
                faces[tail : tail + c] = _exchanged(faces[tail : tail + c], c - tail, set(faces[:tail]))
            windows[row] = faces[begin : begin + c]
        return windows.ravel()

    def _short_window(self, owner: int, n: int, visit: int) -> NDArray[np.int64]:
        # Window `visit` of an identity with c < n < 2 c faces, int64 [c] in [0, n).
        c = self._quota
        k, offset = divmod(visit * c, n)
        left = n - offset
        if left >= c:
            return np.array(self._orders(owner, n, k, k)[0][offset : offset + c])
        old, new = self._orders(owner, n, k, k + 1)
        return np.array(old[offset:] + new[: c - left])

    def _orders(self, owner: int, n: int, first: int, last: int) -> list[list[int]]:
        # P_first, ..., P_last of an identity with c < n < 2 c faces, in lists: for orders so short faster than arrays.
        c = self._quota
        start = first - first % (c // math.gcd(n, c))
        keys = hashing.hash64(self._seed, _FACES, owner, np.arange(start, last + 1)[:, None], np.arange(n))
        orders: list[list[int]] = np.argsort(keys, axis=1, kind="stable").tolist()
        for k in range(start + 1, last + 1):
            if r := k * n % c:
                orders[k - start] = _exchanged(orders[k - start], c - r, set(orders[k - start - 1][n - r :]))
        return orders[first - start :]

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


def _holding(highest: int) -> type[np.int32] | type[np.int64]:
    return np.int32 if highest < 2**31 else np.int64
