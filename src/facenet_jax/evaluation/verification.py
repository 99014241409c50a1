"""Computes VAL and FAR, equations (4)-(6) of the paper, from the distances of same and different pairs."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facenet_jax.errors import InputError
from facenet_jax.evaluation.distance_counts import DistanceCounts

# Squared distances on the unit sphere are at most 4. A bin's number fits into one byte, which makes counting fast, and
# scaling by a power of two is exact.
BINS_PER_UNIT = 64
BINS = 4 * BINS_PER_UNIT


@dataclass(frozen=True)
class PairDistances:
    """The kept part of the squared L2 distances of all pairs judged.

    Attributes:
      same: the distances of P_same.
      different: the smallest distances of P_diff, at least as many as the largest FAR asked needs, often all.
      different_below: int64 [BINS + 1]; entry b counts the pairs of P_diff with D < b / BINS_PER_UNIT, exactly; the
        last entry counts all of them, those further than 4 apart too.
    """

    same: DistanceCounts
    different: DistanceCounts
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

    Only distances that occur, of same or of different pairs, are thresholds: between two of them nothing changes.

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
    """The ROC curve, the area under it and the equal error rate.

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
    """Makes PairDistances of all distances.

    Args:
      same, different: the squared L2 distances of P_same and P_diff.

    Raises:
      InputError: there is no pair of the same identity, or a distance is not a finite number.
    """
    counts: list[DistanceCounts] = []
    for distances, name in ((same, "same"), (different, "different")):
        found = np.asarray(distances, np.float32).ravel()
        if not np.isfinite(found).all():
            raise InputError(
                f"{int(np.sum(~np.isfinite(found)))} of the {len(found)} distances of {name} pairs are not finite; "
                "look for NaN in the embeddings."
            )
        counts.append(DistanceCounts(found))
    if not len(counts[0]):
        raise InputError("No pair shows the same identity, so VAL is undefined; give pairs of both kinds.")
    edges = np.arange(BINS + 1, dtype=np.float32) / BINS_PER_UNIT
    edges[-1] = np.inf
    return PairDistances(counts[0], counts[1], counts[1].below(edges))


def check_fars(fars: Sequence[float]) -> tuple[float, ...]:
    """The FARs as floats; raises InputError if there is none or one is not in (0, 1]."""
    checked = tuple(float(far) for far in fars)
    if not checked or not all(0 < far <= 1 for far in checked):
        raise InputError(
            f"The false accept rates {list(checked)} must lie in (0, 1]; give at least one, such as 0.001."
        )
    return checked


def check_threshold(distance: float) -> float:
    """The squared distance; raises InputError if it is not possible between two different unit vectors."""
    if not 0 < distance < 4:
        raise InputError(f"--threshold={distance:g}: squared distances of unit vectors lie between 0 and 4.")
    return distance


def allowed_accepts(far: float, different_pairs: int) -> int:
    """The largest number of false accepts whose share does not exceed the FAR.

    The FAR is taken as its decimal form: 0.29 of 100 pairs are 29 pairs, although 0.29 * 100 is less in floating point.
    """
    return math.floor(Fraction(str(float(far))) * different_pairs)


def pairs_needed(far: float) -> int:
    """How many pairs of different identities a FAR needs, so that one false accept is allowed."""
    return math.ceil(1 / Fraction(str(float(far))))


def smallest_far(different_pairs: int) -> float:
    """The smallest FAR that a number of pairs of different identities resolves, rounded up to two digits."""
    exact = Fraction(1, different_pairs)
    place = math.floor(math.log10(exact)) - 1
    return float(f"{math.ceil(exact * Fraction(10) ** -place)}e{place}")


def with_smallest(fars: Sequence[float], different_pairs: int) -> tuple[float, ...]:
    """The FARs, and if one of them needs more pairs of different identities, also the smallest that these resolve."""
    if not different_pairs or all(pairs_needed(far) <= different_pairs for far in fars):
        return tuple(fars)
    smallest = smallest_far(different_pairs)
    return tuple(fars) if smallest in fars else (*fars, smallest)


def smallest_in_words(far: float, trials: int, of: str = "different pairs") -> str:
    """The remark of a table at the smallest FAR that this many pairs (or other trials) resolve; empty at others."""
    return f"(the smallest that {trials:,} {of} resolve)" if trials and far == smallest_far(trials) else ""


def operating_point(pairs: PairDistances, far: float) -> OperatingPoint:
    """VAL at the asked FAR (equation 6); `far` must not exceed the `max_far` that the pairs were made with.

    With different distances d_1 <= d_2 <= ..., distances strictly below d_(allowed + 1) are accepted. Ties at the
    threshold are rejected together, so that FAR does not exceed the one asked.
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
    different_pairs, same_pairs = pairs.different_pairs, pairs.same_pairs
    if different_pairs == 0:
        return Curve(np.empty(0), np.empty(0), math.nan, math.nan, False)
    kept = len(pairs.different)
    ranks = np.unique(np.geomspace(1, max(kept - 1, 1), points).astype(np.int64))
    bounds = pairs.different.nth(ranks[ranks < kept])
    edges = _edges_beyond(pairs)
    false_accepts = np.concatenate(
        [pairs.different.below(bounds), _below_edges(pairs, edges), np.array([different_pairs])]
    )
    true_accepts = np.concatenate([pairs.same.below(bounds), pairs.same.below(edges), np.array([same_pairs])])
    some = false_accepts > 0
    return Curve(
        false_accepts[some] / different_pairs,
        true_accepts[some] / same_pairs,
        _area(pairs, edges),
        _equal_error_rate(pairs, edges),
        pairs.complete,
    )


def _edges_beyond(pairs: PairDistances) -> NDArray[np.float32]:
    """The edges of the histogram beyond the kept distances; none if all are kept."""
    edges = np.arange(BINS, dtype=np.float32) / np.float32(BINS_PER_UNIT)
    last = pairs.different.values[-1] if len(pairs.different) else np.float32(-1)
    return edges[edges > last] if not pairs.complete else edges[:0]


def _below_edges(pairs: PairDistances, edges: NDArray[np.float32]) -> NDArray[np.int64]:
    return pairs.different_below[(edges * BINS_PER_UNIT).astype(np.int64)]


def _area(pairs: PairDistances, edges: NDArray[np.float32]) -> float:
    """The share of (same, different) pairs of pairs in which the same one is nearer, half of the ties counted."""
    values, counts = pairs.different.values, pairs.different.counts
    nearer = float(np.sum(counts * ((pairs.same.below(values) + pairs.same.at_most(values)) / 2.0)))
    if len(edges):
        # From the last distance kept over the edges to the end, by trapezoids.
        false = np.concatenate([[len(pairs.different)], _below_edges(pairs, edges), [pairs.different_pairs]])
        last = values[-1] if len(values) else np.float32(-1)
        true = np.concatenate([[pairs.same.at_most(last)], pairs.same.below(edges), [pairs.same_pairs]])
        nearer += float(np.trapezoid(true, false))
    return nearer / pairs.different_pairs / pairs.same_pairs


def _equal_error_rate(pairs: PairDistances, edges: NDArray[np.float32]) -> float:
    """Where the straight lines between neighbouring thresholds meet FAR = 1 - VAL."""

    def rates(distance: float) -> tuple[float, float]:
        """FAR and VAL where all up to this distance is accepted."""
        return (
            float(pairs.different.at_most(distance)) / pairs.different_pairs,
            float(pairs.same.at_most(distance)) / pairs.same_pairs,
        )

    after = math.inf
    for values in (pairs.same.values, pairs.different.values):
        place = bisect_left(values, 1.0, key=lambda distance: sum(rates(float(distance))))
        if place < len(values):
            after = min(after, float(values[place]))
    last = float(pairs.different.values[-1]) if len(pairs.different) else -1.0
    if pairs.complete or after <= last:
        smaller = [float(v[i - 1]) for v in (pairs.same.values, pairs.different.values) if (i := _first_at(v, after))]
        ends = (rates(max(smaller)) if smaller else (0.0, 0.0)), rates(after)
    else:
        far = np.concatenate([[rates(last)[0]], _below_edges(pairs, edges) / pairs.different_pairs, [1.0]])
        val = np.concatenate([[rates(last)[1]], pairs.same.below(edges) / pairs.same_pairs, [1.0]])
        place = int(np.argmax(far + val >= 1))
        ends = (float(far[place - 1]), float(val[place - 1])), (float(far[place]), float(val[place]))
    before, beyond = (sum(end) - 1 for end in ends)
    share = -before / (beyond - before)
    return ends[0][0] + share * (ends[1][0] - ends[0][0])


def _first_at(values: NDArray[np.float32], distance: float) -> int:
    return int(np.searchsorted(values, np.float32(distance)))
