"""VAL and FAR by equations (4)-(6) of the paper: from the distances of same and different pairs to rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facenet_jax.errors import InputError
from facenet_jax.evaluation.tally import Tally

# Points on the unit sphere are at most 4 apart.
BINS_PER_UNIT = 1024
BINS = 4 * BINS_PER_UNIT


@dataclass(frozen=True)
class PairDistances:
    """What is kept of the squared L2 distances of all pairs judged.

    Attributes:
      same: the distances of P_same.
      different: the smallest distances of P_diff, at least so many as the largest FAR asked needs, often all.
      different_below: int64 [BINS + 1]; entry b counts the pairs of P_diff with D < b / BINS_PER_UNIT, exactly; the
        last entry counts all of them, those further than 4 apart too.
    """

    same: Tally
    different: Tally
    different_below: NDArray[np.int64]

    @property
    def same_pairs(self) -> int:
        """The size of P_same."""
        return len(self.same)

    @property
    def different_pairs(self) -> int:
        """The size of P_diff."""
        return int(self.different_below[-1])

    @property
    def complete(self) -> bool:
        """Whether every distance of P_diff is kept."""
        return len(self.different) == self.different_pairs


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


@dataclass(frozen=True)
class Curve:
    """The ROC curve and what it says as a whole.

    Attributes:
      far, val: float64, both ascending, FAR > 0; empty if there is no pair of different identities.
      area: under the curve of VAL over FAR, in [0, 1], half of a tie counted.
      equal_error_rate: where FAR equals 1 - VAL, between the two nearest thresholds on a straight line.
      exact: whether area and equal error rate come from every distance; otherwise from those and a histogram of bins
        1 / BINS_PER_UNIT wide.
    """

    far: NDArray[np.float64]
    val: NDArray[np.float64]
    area: float
    equal_error_rate: float
    exact: bool


def from_distances(same: ArrayLike, different: ArrayLike) -> PairDistances:
    """Of distances that are all at hand.

    Args:
      same, different: the squared L2 distances of P_same and P_diff.

    Raises:
      InputError: there is no pair of the same identity, or a distance is not a finite number.
    """
    tallies: list[Tally] = []
    for distances, name in ((same, "same"), (different, "different")):
        found = np.asarray(distances, np.float32).ravel()
        if not np.isfinite(found).all():
            raise InputError(
                f"{int(np.sum(~np.isfinite(found)))} of the {len(found)} distances of {name} pairs are not finite; "
                "look for NaN in the embeddings."
            )
        tallies.append(Tally(found))
    if not len(tallies[0]):
        raise InputError("No pair shows the same identity, so VAL is undefined; give pairs of both kinds.")
    edges = np.arange(BINS + 1, dtype=np.float32) / BINS_PER_UNIT
    edges[-1] = np.inf
    return PairDistances(tallies[0], tallies[1], tallies[1].below(edges))


def check_fars(fars: Sequence[float]) -> tuple[float, ...]:
    """The FARs as floats; raises InputError if there is none or one is not in (0, 1]."""
    checked = tuple(float(far) for far in fars)
    if not checked or not all(0 < far <= 1 for far in checked):
        raise InputError(
            f"The false accept rates {list(checked)} must lie in (0, 1]; give at least one, such as 0.001."
        )
    return checked


def allowed_accepts(far: float, different_pairs: int) -> int:
    """The largest number of false accepts whose share does not exceed the FAR.

    The FAR counts as the decimal that is written: 0.29 of 100 pairs are 29 pairs, although 0.29 * 100 in floating point
    is less.
    """
    return math.floor(Fraction(str(float(far))) * different_pairs)


def pairs_needed(far: float) -> int:
    """How many pairs of different identities a FAR needs, so that one false accept is allowed."""
    return math.ceil(1 / Fraction(str(float(far))))


def operating_point(pairs: PairDistances, far: float) -> OperatingPoint:
    """VAL at the asked FAR (equation 6); `far` must not exceed the `max_far` that the pairs were made with.

    With different distances d_1 <= d_2 <= ..., all that lies strictly below d_(allowed + 1) is accepted. So ties at the
    threshold are refused together: FAR stays below the one asked rather than going above it.
    """
    (far,) = check_fars([far])
    same_pairs, different_pairs, needed = pairs.same_pairs, pairs.different_pairs, pairs_needed(far)
    if different_pairs < needed:
        return OperatingPoint(far, None, None, None, same_pairs, different_pairs, needed)
    allowed = allowed_accepts(far, different_pairs)
    if allowed >= len(pairs.different) and not pairs.complete:
        raise ValueError("this FAR is larger than the max_far that the pair distances were made with")
    bound = pairs.different.nth(allowed)
    true_accepts, false_accepts = int(pairs.same.below(bound)), int(pairs.different.below(bound))
    accepted = [float(t.nth(n - 1)) for t, n in ((pairs.same, true_accepts), (pairs.different, false_accepts)) if n]
    return OperatingPoint(
        far=far,
        threshold=max(accepted) if accepted else None,
        val=true_accepts / same_pairs,
        far_reached=false_accepts / different_pairs,
        same_pairs=same_pairs,
        different_pairs=different_pairs,
        pairs_needed=needed,
    )


def roc(pairs: PairDistances, points: int = 256) -> Curve:
    """The ROC curve, in up to `points` thresholds evenly spaced in log FAR, and the edges of the histogram beyond.

    Every point of it is exact. Area and equal error rate use every threshold that is known, not those points alone.
    """
    if pairs.different_pairs == 0:
        return Curve(np.empty(0), np.empty(0), math.nan, math.nan, False)
    # What is accepted at each threshold, "strictly below" so that kept distances and edges of bins mean the same.
    kept = pairs.different.values
    edges = np.arange(BINS, dtype=np.float32) / BINS_PER_UNIT
    edges = edges[edges > kept[-1]] if len(kept) else edges
    if pairs.complete:
        edges = edges[:0]
    bounds = np.concatenate([_thresholds(pairs), edges])
    false_accepts = np.concatenate([pairs.different.below(bounds[: len(bounds) - len(edges)]), np.empty(0, np.int64)])
    if len(edges):
        beyond = pairs.different_below[(edges * BINS_PER_UNIT).astype(np.int64)]
        false_accepts = np.concatenate([false_accepts, beyond])
    true_accepts = pairs.same.below(bounds)
    false_accepts = np.append(false_accepts, pairs.different_pairs)
    true_accepts = np.append(true_accepts, pairs.same_pairs)
    far, val = false_accepts / pairs.different_pairs, true_accepts / pairs.same_pairs
    area = float(np.trapezoid(np.append(0.0, val), np.append(0.0, far)))
    rate = _equal_error_rate(np.append(0.0, far), np.append(0.0, val))
    shown = _shown(far, val, points)
    return Curve(far[shown], val[shown], area, rate, pairs.complete)


def _thresholds(pairs: PairDistances) -> NDArray[np.float32]:
    """Bounds just above each distance that is kept: what lies strictly below one is what that distance accepts."""
    last = pairs.different.values[-1] if len(pairs.different.values) else np.float32(-1)
    same = pairs.same.values if pairs.complete else pairs.same.values[pairs.same.values <= last]
    values = np.union1d(pairs.different.values, same)
    return np.nextafter(values, np.float32(np.inf))


def _equal_error_rate(far: NDArray[np.float64], val: NDArray[np.float64]) -> float:
    excess = far - (1 - val)  # rises from -1 to 1
    after = int(np.argmax(excess >= 0))
    if after == 0:
        return float(far[0])
    step = excess[after] - excess[after - 1]
    share = -excess[after - 1] / step
    return float(far[after - 1] + share * (far[after] - far[after - 1]))


def _shown(far: NDArray[np.float64], val: NDArray[np.float64], points: int) -> NDArray[np.intp]:
    """Of thresholds in ascending order, the best at each of some FARs, evenly spaced in their logarithm."""
    some = far > 0
    lowest = far[some][0]
    wanted = np.geomspace(lowest, 1, points)
    wanted[-1] = 1.0
    places = np.searchsorted(far, wanted * (1 + 1e-12), side="right") - 1
    places = np.unique(places[places >= 0])
    return places[far[places] > 0]
