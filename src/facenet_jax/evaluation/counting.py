"""Counts the distances of all pairs between two sets of faces, or within one: 10^10 pairs in bounded memory.

A tile's distances come from one matrix product: with |x|^2 and 1 appended to the vectors of one side, and 1 and |y|^2
to those of the other, |x|^2 + |y|^2 - 2 x.y is itself a product. Of each tile are kept the distances of same pairs,
those of different pairs below a cutoff, and a histogram. The cutoff lies a little above the distance that decides the
largest FAR asked; it is guessed from a sample of the pairs, and everything is counted again in the rare case that the
guess was too low, so that no rate depends on the sample. Tiles are NumPy's on a CPU and XLA's on an accelerator; the
rest is the same.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from facenet_jax.errors import InputError
from facenet_jax.evaluation.device_counting import TILE as DEVICE_TILE
from facenet_jax.evaluation.device_counting import DeviceStrips, Sides, accelerators
from facenet_jax.evaluation.distance_counts import DistanceCounter
from facenet_jax.evaluation.verification import BINS, BINS_PER_UNIT, PairDistances, allowed_accepts, check_fars
from facenet_jax.runtime.cores import usable_cores
from facenet_jax.runtime.hashing import below as random_below

# Bins are bytes.
assert BINS == 256
# Rows and columns of a tile: small enough for a core's cache, and a constant, so that counts depend on nothing else.
TILE = 1024
# Up to this many pairs all distances are kept, which costs less than guessing a cutoff.
_ALL_KEPT = 2**22
_SAMPLE = 2**20
_SAMPLE_SEED = 0x73616D70  # "samp"


def pair_distances(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    left_labels: ArrayLike,
    right_labels: ArrayLike,
    max_far: float,
    tile: int | None = None,
    all_kept: int = _ALL_KEPT,
    devices: Sequence[jax.Device] | None = None,
) -> PairDistances:
    """Judges every face of the left set against every face of the right set (section 4, P_same and P_diff).

    Args:
      left, right: [n, d] and [m, d] embeddings, compared in float32.
      left_labels, right_labels: [n] and [m] identities, of any type that compares and sorts.
      max_far: the largest FAR that `operating_point` will be asked for; this share of the different pairs is kept.
      tile: rows and columns of the distances that a thread holds at one time; None: the default of the CPU or device.
      all_kept: up to this many pairs every distance is kept.
      devices: the devices that count; empty: NumPy on threads; None: all accelerators of this process.

    Raises:
      InputError: the shapes do not fit, a number is not finite, or no two faces are of the same identity.
    """
    check_fars([max_far])
    sets = _checked(left, right, left_labels, right_labels)
    return _Counting(*sets, tile, all_kept, False, devices).run(max_far)


def squared_pair_distances(
    points: NDArray[np.float32],
    labels: ArrayLike,
    max_far: float,
    tile: int | None = None,
    all_kept: int = _ALL_KEPT,
    devices: Sequence[jax.Device] | None = None,
    known: NDArray[np.float32] | None = None,
) -> PairDistances:
    """Judges every face of a set against every other, each pair once and never a face with itself.

    Args and Raises: as `pair_distances`; `known` [n, d] are points that the later face of each pair has instead, in the
    order of the identities, and of the faces within one.
    """
    check_fars([max_far])
    sets = _checked(points, points if known is None else known, labels, labels)
    return _Counting(*sets, tile, all_kept, True, devices).run(max_far)


def counted_on() -> str:
    """What counts pairs here: "cpu", or the number of accelerators and their kind, such as "1 gpu"."""
    devices = accelerators()
    return f"{len(devices)} {devices[0].platform}" if devices else "cpu"


def _checked(
    left: NDArray[np.float32], right: NDArray[np.float32], left_labels: ArrayLike, right_labels: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """The sets in float32, with identities as small integers; raises InputError as `pair_distances`."""
    left, right = np.asarray(left, np.float32), np.asarray(right, np.float32)
    names_left, names_right = np.asarray(left_labels), np.asarray(right_labels)
    fits = left.ndim == right.ndim == 2 and left.shape[1] == right.shape[1]
    if not fits or names_left.shape != left.shape[:1] or names_right.shape != right.shape[:1]:
        raise InputError(
            f"Embeddings of shapes {left.shape} and {right.shape} with labels of shapes {names_left.shape} and "
            f"{names_right.shape} cannot be paired; give [n, d] and [m, d] with [n] and [m]."
        )
    check_finite(left)
    check_finite(right)
    _, ids = np.unique(np.concatenate([names_left, names_right]), return_inverse=True)
    return left, right, ids[: len(left)].astype(np.int64), ids[len(left) :].astype(np.int64)


def check_finite(points: NDArray[np.float32]) -> None:
    """Raises InputError if an embedding of [n, d] is not finite."""
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise InputError(
            f"The embedding of face {int(np.argmin(finite))} is not finite ({int(np.sum(~finite))} of {len(points)} "
            "are not); look for NaN in the parameters or the images."
        )


def sampled_distances(
    left: NDArray[np.float32], right: NDArray[np.float32], ids_left: NDArray[np.int64], ids_right: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Distances of about a million different pairs, drawn evenly and independently of each other from all of them."""
    rows, columns = (
        random_below(len(ids), _SAMPLE_SEED, side, np.arange(_SAMPLE)) for side, ids in enumerate((ids_left, ids_right))
    )
    different = ids_left[rows] != ids_right[columns]
    rows, columns = rows[different], columns[different]
    distances = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), 2**14):
        part = slice(start, start + 2**14)
        difference = left[rows[part]] - right[columns[part]]
        np.einsum("nd,nd->n", difference, difference, out=distances[part])
    return distances


class _Counting:
    """All pairs of two sets, or within one where `squared`; both sides sorted by identity."""

    def __init__(
        self,
        left: NDArray[np.float32],
        right: NDArray[np.float32],
        ids_left: NDArray[np.int64],
        ids_right: NDArray[np.int64],
        tile: int | None,
        all_kept: int,
        squared: bool,
        devices: Sequence[jax.Device] | None,
    ) -> None:
        same = np.bincount(ids_left, minlength=len(left) + len(right))
        others = same - 1 if squared else np.bincount(ids_right, minlength=len(same))
        same_pairs = int(same @ others) // (2 if squared else 1)
        if same_pairs == 0:
            raise InputError("No pair shows the same identity, so VAL is undefined; give more faces of each identity.")
        pairs = len(left) * (len(left) - 1) // 2 if squared else len(left) * len(right)
        self._pairs, self._different_pairs = pairs, pairs - same_pairs
        self._all_kept = all_kept
        # Sorted by identity, a face's same pairs are neighbours.
        by_left, by_right = np.argsort(ids_left, kind="stable"), np.argsort(ids_right, kind="stable")
        self._ids = ids_left[by_left], ids_right[by_right]
        # In bins rather than units: a power of two changes no digit.
        self._left = _appended(left[by_left], np.float32(-2 * BINS_PER_UNIT), norm_first=True)
        self._right = _appended(right[by_right], np.float32(1), norm_first=False)
        # On the sphere no two points are farther apart than 4, but for rounding.
        on_sphere = all(np.einsum("nd,nd->n", x, x).max(initial=0) < 1.001 for x in (left, right))
        self._masked = np.float32(2 * BINS if on_sphere else np.inf)
        devices = accelerators() if devices is None else devices
        sides = Sides(self._left, self._right, *self._ids, squared)
        if devices:
            # Two strips a device: one is fetched while the next is counted, and little of its memory is taken.
            self._tile, self._workers = tile or DEVICE_TILE, 2 * len(devices)
            self._strip: _Strip = DeviceStrips(sides, self._tile, devices)
        else:
            self._tile, self._workers = tile or TILE, usable_cores()
            self._strip = _HostStrips(sides, self._tile, self._masked, on_sphere)

    def run(self, max_far: float) -> PairDistances:
        # One more than may be accepted: the first distance that may not be accepted bounds the threshold.
        needed = min(allowed_accepts(max_far, self._different_pairs) + 1, self._different_pairs)
        share = needed / max(self._different_pairs, 1)
        while True:
            cutoff = self._guess(share)
            counted = self._count(cutoff)
            if len(counted.different) >= needed:
                return counted
            share *= 4

    def _guess(self, share: float) -> np.float32:
        """A distance, in bins, with a little more than this share of the different pairs below."""
        if self._pairs <= self._all_kept:
            return self._masked
        distances = sampled_distances(
            self._left[:, :-2] * np.float32(-0.5 / BINS_PER_UNIT), self._right[:, :-2], *self._ids
        )
        # Six standard deviations of a binomial count above.
        mean = share * len(distances)
        rank = math.ceil(mean + 6 * math.sqrt(mean + 1) + 12)
        if rank >= len(distances):
            return self._masked
        return np.float32(np.partition(distances, rank)[rank] * BINS_PER_UNIT)

    def _count(self, cutoff: np.float32) -> PairDistances:
        same, different = DistanceCounter(), DistanceCounter()
        histogram = np.zeros(BINS, np.int64)
        lock = threading.Lock()

        def count(top: int) -> None:
            same_here, close, bins = self._strip(top, cutoff)
            same_here, close = (np.maximum(part / BINS_PER_UNIT, np.float32(0)) for part in (same_here, close))
            same.add(same_here)
            different.add(close)
            with lock:
                np.add(histogram, bins, out=histogram)

        strips = range(0, len(self._left), self._tile)
        workers = min(len(strips), self._workers)
        # One strip per core: matrix products that each use all cores would wait for one another.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(count, top) for top in strips]:
                done.result()
        below = np.concatenate([np.zeros(1, np.int64), np.cumsum(histogram)])
        below[-1] = self._different_pairs
        return PairDistances(same.counts(), different.counts(), below)


# The strip of rows from a number on, and a cutoff in bins -> distances of its same pairs, those of its different pairs
# below the cutoff, and a histogram of all of these; all in bins.
_Strip = Callable[[int, np.float32], tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]]


class _HostStrips:
    """Strips on the threads of this machine, by NumPy."""

    def __init__(self, sides: Sides, tile: int, masked: np.float32, on_sphere: bool) -> None:
        self._left, self._right, ids_left, ids_right, self._squared = sides
        self._tile, self._masked, self._on_sphere = tile, masked, on_sphere
        self._first_same = np.searchsorted(ids_right, ids_left, side="left")
        self._end_same = np.searchsorted(ids_right, ids_left, side="right")
        if self._squared:
            self._first_same = np.arange(1, len(ids_left) + 1)

    def __call__(
        self, top: int, cutoff: np.float32
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        tile = self._tile
        left = self._left[top : top + tile]
        rows = np.arange(len(left))
        kept: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
        same: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
        histogram = np.zeros(BINS, np.int64)
        all_distances, all_close = np.empty(tile * tile, np.float32), np.empty(tile * tile, bool)
        all_bins = np.zeros(tile * tile, np.uint8)
        for start in range(top if self._squared else 0, len(self._right), tile):
            right = self._right[start : start + tile]
            shape = len(left), len(right)
            size = shape[0] * shape[1]
            distances, close = all_distances[:size], all_close[:size]
            grid = distances.reshape(shape)
            np.matmul(left, right.T, out=grid)
            first = np.clip(self._first_same[top : top + tile], start, start + len(right)) - start
            end = np.clip(self._end_same[top : top + tile], start, start + len(right)) - start
            count = np.maximum(end - first, 0)
            if count.any():
                within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
                places = np.repeat(rows * shape[1] + first, count) + within
                same.append(distances[places])
                distances[places] = self._masked
            if self._squared and start == top:
                grid[np.tril_indices(len(left))] = self._masked
            # Rounded towards zero, so that values that rounding made negative are in the first bin; far ones are in the
            # last. Most tiles have none, and looking for one costs less than clipping.
            if self._on_sphere and distances.max() < BINS:
                np.copyto(all_bins[:size], distances, casting="unsafe")
            else:
                np.minimum(np.maximum(distances, 0), np.float32(BINS - 1), out=all_bins[:size], casting="unsafe")
            # Pillow counts bytes faster than NumPy, and lets the other threads go on meanwhile.
            histogram += Image.frombuffer("L", shape[::-1], all_bins[:size], "raw", "L", 0, 1).histogram()
            np.less(distances, cutoff, out=close)
            kept.append(distances[np.flatnonzero(close)])  # faster than by the mask, since few are close
        return np.concatenate(same), np.concatenate(kept), histogram


def _appended(points: NDArray[np.float32], factor: np.float32, norm_first: bool) -> NDArray[np.float32]:
    """[factor x, |x|^2, 1] or [factor x, 1, |x|^2], with the norm in bins on the side that has the factor."""
    norms = np.einsum("nd,nd->n", points, points)[:, None]
    ones = np.ones_like(norms)
    bins = np.float32(BINS_PER_UNIT)
    last = [norms * bins, ones * bins] if norm_first else [ones, norms]
    return np.ascontiguousarray(np.concatenate([points * factor, *last], axis=1))
