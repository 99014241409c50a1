"""VAL and FAR by equations (4)-(6) of the paper: from embeddings and their identities to rates at a distance.

Distances are squared L2 distances in float32, the difference of squared norms and a Gram matrix, clamped at 0. They are
worked out block by block and thrown away again, so that 20,000 x 20,000 pairs need no more memory than one block, the
distances of the same identity, and the few smallest distances of different identities that decide a small FAR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facenet_jax.errors import InputError

# Points on the unit sphere are at most 4 apart. A power of two makes `distance * BINS_PER_UNIT` exact in float32.
BINS_PER_UNIT = 1024
BINS = 4 * BINS_PER_UNIT


@dataclass(frozen=True)
class PairDistances:
    """What is kept of all pairs (i, j) between two sets of faces.

    Attributes:
      same: float32 [same pairs], the distances of all pairs of P_same, ascending.
      different_smallest: float32, the smallest distances of P_diff, ascending; enough for the largest FAR asked.
      different_within: int64 [BINS + 1]; entry b counts the pairs of P_diff with D <= b / BINS_PER_UNIT, exactly;
        the last entry counts all of them, those further than 4 apart too.
      different_pairs: the size of P_diff.
    """

    same: NDArray[np.float32]
    different_smallest: NDArray[np.float32]
    different_within: NDArray[np.int64]
    different_pairs: int


@dataclass(frozen=True)
class OperatingPoint:
    """VAL at the largest threshold whose FAR does not exceed the one asked; a pair is accepted if D <= threshold.

    Only distances that occur, of same or of different pairs, can be thresholds: between two of them nothing changes.

    Attributes:
      far: the FAR asked.
      threshold: squared L2 distance. None if the FAR is unresolved, or if even the smallest distance that occurs is
        shared by too many pairs of different identities; then nothing is accepted and VAL is 0.
      val: VAL(threshold), equation (6), in [0, 1]; None if unresolved.
      far_reached: FAR(threshold) <= far; None if unresolved.
      same_pairs, different_pairs: the sizes of P_same and P_diff.
      pairs_needed: how many pairs of different identities this FAR needs at least, that is 1 / far.
    """

    far: float
    threshold: float | None
    val: float | None
    far_reached: float | None
    same_pairs: int
    different_pairs: int
    pairs_needed: int

    @property
    def resolved(self) -> bool:
        """False if not even one false accept is allowed (far * different_pairs < 1): VAL there would be a guess."""
        return self.different_pairs >= self.pairs_needed


def check_fars(fars: Sequence[float]) -> tuple[float, ...]:
    """The FARs as floats; raises InputError if there is none or one is not in (0, 1]."""
    checked = tuple(float(far) for far in fars)
    if not checked or not all(0 < far <= 1 for far in checked):
        raise InputError(
            f"The false accept rates {list(checked)} must lie in (0, 1]; give at least one, such as 0.001."
        )
    return checked


def pair_distances(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    left_labels: ArrayLike,
    right_labels: ArrayLike,
    max_far: float,
    block: int = 1024,
) -> PairDistances:
    """Judges every face of the left set against every face of the right set (section 4, P_same and P_diff).

    Args:
      left, right: [n, d] and [m, d] embeddings, compared in float32.
      left_labels, right_labels: [n] and [m] identities, of any type that compares and sorts.
      max_far: the largest FAR that `operating_point` will be asked for; this share of the different pairs is kept.
      block: rows and columns of the block of distances that exists at one time.

    Raises:
      InputError: the shapes do not fit, or no two faces are of the same identity.
    """
    check_fars([max_far])
    left, right = np.asarray(left, np.float32), np.asarray(right, np.float32)
    names_left, names_right = np.asarray(left_labels), np.asarray(right_labels)
    fits = left.ndim == right.ndim == 2 and left.shape[1] == right.shape[1]
    if not fits or names_left.shape != left.shape[:1] or names_right.shape != right.shape[:1]:
        raise InputError(
            f"Embeddings of shapes {left.shape} and {right.shape} with labels of shapes {names_left.shape} and "
            f"{names_right.shape} cannot be paired; give [n, d] and [m, d] with [n] and [m]."
        )

    # Identities become small integers: cheap to compare in a block, and to count beforehand.
    _, ids = np.unique(np.concatenate([names_left, names_right]), return_inverse=True)
    ids_left, ids_right = ids[: len(left)].astype(np.int32), ids[len(left) :].astype(np.int32)
    same_pairs = int(np.bincount(ids_left, minlength=len(ids)) @ np.bincount(ids_right, minlength=len(ids)))
    different_pairs = len(left) * len(right) - same_pairs
    if same_pairs == 0:
        raise InputError(
            "No pair of the two sets shows the same identity, so VAL is undefined; give more faces of each."
        )

    same: list[NDArray[np.float32]] = []
    # One more than may be accepted: the first distance that may not be accepted bounds the threshold.
    smallest = _Smallest(min(_allowed(max_far, different_pairs) + 1, different_pairs))
    histogram = np.zeros(BINS + 1, np.int64)
    norms_left, norms_right = (np.einsum("nd,nd->n", points, points) for points in (left, right))
    for top in range(0, len(left), block):
        rows = slice(top, top + block)
        for start in range(0, len(right), block):
            columns = slice(start, start + block)
            distances = left[rows] @ right[columns].T
            distances *= -2
            distances += norms_left[rows, None]
            distances += norms_right[columns]
            np.maximum(distances, 0, out=distances)
            is_same = ids_left[rows, None] == ids_right[columns]
            same_here = distances[is_same]
            same.append(same_here)
            histogram += _count_by_bin(distances)
            histogram -= _count_by_bin(same_here)
            distances[is_same] = np.inf
            smallest.add(distances)

    return PairDistances(np.sort(np.concatenate(same)), smallest.sorted(), np.cumsum(histogram), different_pairs)


def operating_point(pairs: PairDistances, far: float) -> OperatingPoint:
    """VAL at the asked FAR (equation 6); `far` must not exceed the `max_far` that the pairs were made with."""
    (far,) = check_fars([far])
    same_pairs, different_pairs = len(pairs.same), pairs.different_pairs
    needed = math.ceil(1 / _decimal(far))
    if different_pairs < needed:
        return OperatingPoint(far, None, None, None, same_pairs, different_pairs, needed)

    accepts = _accepts(pairs, np.array([_allowed(far, different_pairs)]))
    true_accepts, false_accepts = (int(count[0]) for count in accepts)
    accepted = [*pairs.same[:true_accepts][-1:], *pairs.different_smallest[:false_accepts][-1:]]
    return OperatingPoint(
        far=far,
        threshold=float(max(accepted)) if accepted else None,
        val=true_accepts / same_pairs,
        far_reached=false_accepts / different_pairs,
        same_pairs=same_pairs,
        different_pairs=different_pairs,
        pairs_needed=needed,
    )


def roc(pairs: PairDistances, points: int = 256) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of the ROC curve: (FAR, VAL), both ascending, with FAR > 0; empty if all pairs are of the same identity.

    Every point is exact. Where FAR is small they are up to `points` thresholds evenly spaced in the logarithm of FAR,
    beyond the distances that are kept they are the edges of the histogram.
    """
    kept = len(pairs.different_smallest)
    if kept == 0:
        return np.empty(0), np.empty(0)
    ranks = np.unique(np.geomspace(1, max(kept - 1, 1), points).astype(np.int64))
    true_accepts, false_accepts = _accepts(pairs, ranks[ranks < kept])
    edges = np.arange(BINS + 1) / np.float32(BINS_PER_UNIT)
    edges[-1] = np.inf
    beyond = edges >= pairs.different_smallest[-1]
    true_accepts = np.append(true_accepts, np.searchsorted(pairs.same, edges[beyond], side="right"))
    false_accepts = np.append(false_accepts, pairs.different_within[beyond])
    some = false_accepts > 0
    return false_accepts[some] / pairs.different_pairs, true_accepts[some] / len(pairs.same)


class _Smallest:
    """The `size` smallest of all numbers added so far, in a buffer of at most a few times that."""

    def __init__(self, size: int):
        self._size = size
        self._parts: list[NDArray[np.float32]] = []
        self._held = 0
        self._cutoff = np.float32(np.inf)

    def add(self, distances: NDArray[np.float32]) -> None:
        """Adds an array; infinite entries stand for nothing."""
        if self._size == 0:
            return
        # Once `size` numbers are held, none above the largest of them can still matter.
        part = distances[(distances <= self._cutoff) & (distances < np.inf)]
        self._parts.append(part)
        self._held += len(part)
        if self._held >= 2 * self._size:
            self._shrink()

    def sorted(self) -> NDArray[np.float32]:
        """The smallest numbers, ascending."""
        return np.sort(np.concatenate([np.empty(0, np.float32), *self._parts]))[: self._size]

    def _shrink(self) -> None:
        smallest = np.partition(np.concatenate(self._parts), self._size - 1)[: self._size]
        self._parts, self._held, self._cutoff = [smallest], self._size, smallest.max()


def _count_by_bin(distances: NDArray[np.float32]) -> NDArray[np.int64]:
    """Counts the D in (b - 1, b] / BINS_PER_UNIT for each b in 0 ... BINS; the last bin takes all that is further."""
    bins = np.ceil(distances * np.float32(BINS_PER_UNIT))
    np.minimum(bins, BINS, out=bins)
    return np.bincount(bins.ravel().astype(np.intp), minlength=BINS + 1)


def _decimal(far: float) -> Fraction:
    """The FAR as it is written: 0.29 of 100 pairs are 29 pairs, although 0.29 * 100 in floating point is less."""
    return Fraction(str(far))


def _allowed(far: float, different_pairs: int) -> int:
    """The largest number of false accepts whose share does not exceed the FAR."""
    return math.floor(_decimal(float(far)) * different_pairs)


def _accepts(pairs: PairDistances, allowed: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """True and false accepts at the largest threshold with no more than `allowed` false accepts.

    With different distances d_1 <= d_2 <= ..., all that lies strictly below d_(allowed + 1) is accepted. So ties at the
    threshold are refused together: FAR stays below the one asked rather than going above it.
    """
    if np.any(allowed >= len(pairs.different_smallest)) and len(pairs.different_smallest) < pairs.different_pairs:
        raise ValueError("this FAR is larger than the max_far that the pair distances were made with")
    bounds = np.append(pairs.different_smallest, np.float32(np.inf))[allowed]
    return np.searchsorted(pairs.same, bounds), np.searchsorted(pairs.different_smallest, bounds)
