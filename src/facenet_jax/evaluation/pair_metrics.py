"""Computes the metrics of a set of pairs: rates with intervals, ROC curve, histograms of distances, wrong pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facenet_jax.evaluation.bootstrap import identity_weights, interval, val_over_identities, val_over_pairs
from facenet_jax.evaluation.counting import squared_pair_distances
from facenet_jax.evaluation.labelled_pairs import MOST, RESERVE, LabelledPairs, WrongPairs, closest, listed, wrong_pairs
from facenet_jax.evaluation.verification import (
    BINS_PER_UNIT,
    Curve,
    OperatingPoint,
    PairDistances,
    check_fars,
    from_distances,
    operating_point,
    roc,
    smallest_in_words,
    with_smallest,
)

# Bins of the histograms in documents and figures.
_SHOWN_BINS = 64


@dataclass(frozen=True)
class PairMetrics:
    """The metrics of an embedder on a set of pairs.

    Attributes:
      faces, identities: in these pairs.
      points: one operating point for every FAR asked.
      over_identities: the 95 % interval of each VAL, people resampled; None where unresolved or too many pairs.
      over_pairs: the same with pairs resampled, as if they were independent of each other.
      curve: the ROC curve, its area and equal error rate.
      same_histogram, different_histogram: counts of distances in bins of 1/16 from 0 to 4.
      wrong: the wrong pairs at the last FAR that is resolved.
      replicates: float64 [replicates, FARs], VAL with people resampled.
    """

    faces: int
    identities: int
    points: tuple[OperatingPoint, ...]
    over_identities: tuple[tuple[float, float] | None, ...]
    over_pairs: tuple[tuple[float, float] | None, ...]
    curve: Curve
    same_histogram: NDArray[np.int64]
    different_histogram: NDArray[np.int64]
    wrong: WrongPairs
    replicates: NDArray[np.float64] | None = field(repr=False, default=None)

    @property
    def same_pairs(self) -> int:
        """The size of P_same."""
        return self.points[0].same_pairs

    @property
    def different_pairs(self) -> int:
        """The size of P_diff."""
        return self.points[0].different_pairs


def metrics_of_all_pairs(
    points: NDArray[np.float32], labels: ArrayLike, fars: Sequence[float], known: NDArray[np.float32] | None = None
) -> PairMetrics:
    """Metrics of all pairs of a set of faces, each once, never a face with itself ("all squared pairs", section 4.2).

    Args:
      points: float32 [n, d], unit vectors.
      labels: [n], the identity of each.
      fars: each in (0, 1].
      known: float32 [n, d], the points of the same faces by another embedder; a pair is judged by the point of its
        earlier face, in the order of identities, and the known point of its later one. None: `points`.

    Raises:
      InputError: no two faces are of the same identity, or a number is not finite.
    """
    fars = check_fars(fars)
    # More than asked, so that every replicate finds its threshold among the kept distances.
    few = RESERVE * max(fars) * len(points) * (len(points) - 1) / 2 <= MOST
    max_far = min(1.0, RESERVE * max(fars)) if few else max(fars)
    counted = squared_pair_distances(points, labels, max_far, known=known)
    _, identity = np.unique(np.asarray(labels), return_inverse=True)
    at = tuple(operating_point(counted, far) for far in fars)
    resolved = [point.far for point in at if point.resolved]
    ids = identity.astype(np.int64)
    everybody = np.arange(len(points)) if known is None else np.argsort(ids, kind="stable")
    labelled = closest(points, ids, everybody, None, counted, max(resolved), known) if resolved else None
    return _metrics(len(points), int(identity.max()) + 1, counted, labelled, at)


def resolved_fars(labels: ArrayLike, fars: Sequence[float]) -> tuple[float, ...]:
    """The FARs given, and if one of them needs more pairs, also the smallest FAR that all pairs of faces resolve."""
    counts = np.unique(np.asarray(labels), return_counts=True)[1].tolist()
    return with_smallest(fars, (sum(counts) ** 2 - sum(count**2 for count in counts)) // 2)


def metrics_of_listed_pairs(
    distances: NDArray[np.float32],
    faces: NDArray[np.int64],
    same: NDArray[np.bool_],
    identity: NDArray[np.int64],
    fars: Sequence[float],
) -> PairMetrics:
    """Metrics of pairs that are listed one by one.

    Args:
      distances: float32 [n], squared L2.
      faces: int64 [n, 2], which faces.
      same: bool [n].
      identity: int64 [faces].
      fars: each in (0, 1].

    Raises:
      InputError: there is no same pair, or a distance is not finite.
    """
    fars = check_fars(fars)
    counted = from_distances(distances[same], distances[~same])
    at = tuple(operating_point(counted, far) for far in fars)
    used = np.unique(faces)
    labelled = listed(distances, faces, same, identity)
    return _metrics(len(used), len(np.unique(identity[used])), counted, labelled, at)


def metrics_to_json(metrics: PairMetrics) -> dict[str, Any]:
    """Plain numbers, strings, lists and None, ready for `json.dumps`; a curve that has no area has None there."""
    return {
        "faces": metrics.faces,
        "identities": metrics.identities,
        "same_pairs": metrics.same_pairs,
        "different_pairs": metrics.different_pairs,
        "rates": [
            asdict(point) | {"interval_over_identities": people, "interval_over_pairs": pairs}
            for point, people, pairs in zip(metrics.points, metrics.over_identities, metrics.over_pairs, strict=True)
        ],
        "roc": {"far": metrics.curve.far.tolist(), "val": metrics.curve.val.tolist()},
        "area": finite(metrics.curve.area),
        "equal_error_rate": finite(metrics.curve.equal_error_rate),
        "area_exact": metrics.curve.exact,
        "histogram": {"same": metrics.same_histogram.tolist(), "different": metrics.different_histogram.tolist()},
    }


def finite(number: float) -> float | None:
    """The number, or None for NaN and infinity, which JSON cannot represent."""
    return number if np.isfinite(number) else None


def format_rates(metrics: PairMetrics) -> str:
    """The rates as lines of text for people."""
    lines = [
        f"{metrics.faces:,} faces of {metrics.identities:,} identities; {metrics.same_pairs:,} same and "
        f"{metrics.different_pairs:,} different pairs",
        f"  {'VAL':<9}{'95 % over people':<19}{'(over pairs)':<18}{'FAR asked':<11}{'FAR reached':<13}"
        "threshold (squared distance)",
    ]
    for point, people, pairs in zip(metrics.points, metrics.over_identities, metrics.over_pairs, strict=True):
        remark = smallest_in_words(point.far, point.different_pairs)
        if point.val is None or point.far_reached is None:
            lines.append(
                f"  {'unresolved':<46}{point.far:<11.3g}needs {point.pairs_needed:,} different pairs, has "
                f"{point.different_pairs:,}"
            )
            continue
        threshold = "-" if point.threshold is None else f"{point.threshold:.4f}"
        lines.append(
            f"  {f'{100 * point.val:.1f}%':<9}{format_interval(people):<19}{f'({format_interval(pairs)})':<18}"
            f"{point.far:<11.3g}{point.far_reached:<13.3g}{f'{threshold:<11}{remark}'.rstrip()}"
        )
    exact = "" if metrics.curve.exact else f" (from bins of 1/{BINS_PER_UNIT})"
    lines.append(
        f"  area under the ROC curve {metrics.curve.area:.5f}, equal error rate "
        f"{100 * metrics.curve.equal_error_rate:.2f}%{exact}"
    )
    return "\n".join(lines)


def format_interval(ends: tuple[float, float] | None) -> str:
    """Percent, or a dash."""
    return "-" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _metrics(
    faces: int, identities: int, counted: PairDistances, labelled: LabelledPairs | None, at: tuple[OperatingPoint, ...]
) -> PairMetrics:
    fars = [point.far for point in at]
    nothing: tuple[None, ...] = (None,) * len(at)
    over_identities: tuple[tuple[float, float] | None, ...] = nothing
    over_pairs: tuple[tuple[float, float] | None, ...] = nothing
    replicates = None
    resolved = [point for point in at if point.resolved]
    wrong = WrongPairs((), (), ())
    if labelled is not None:
        known = np.array([point.resolved for point in at])
        replicates = val_over_identities(labelled, fars, identity_weights(labelled.identities))
        replicates = np.where(known, replicates, np.nan)
        by_pairs = np.where(known, val_over_pairs(labelled, fars, counted.different_pairs), np.nan)
        over_identities = tuple(interval(column) for column in replicates.T)
        over_pairs = tuple(interval(column) for column in by_pairs.T)
        if resolved:
            wrong = wrong_pairs(labelled, resolved[-1])
    return PairMetrics(
        faces,
        identities,
        at,
        over_identities,
        over_pairs,
        roc(counted),
        *histograms(counted),
        wrong,
        replicates,
    )


def histograms(counted: PairDistances) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Same and different pairs in bins of equal width from 0 to 4; what is farther is in the last."""
    edges = np.linspace(0, 4, _SHOWN_BINS + 1)[1:]
    edges[-1] = np.inf
    same = np.diff(counted.same.below(edges), prepend=0)
    places = np.round(edges[:-1] * BINS_PER_UNIT).astype(np.int64)
    different = np.diff(np.append(counted.different_below[places], counted.different_pairs), prepend=0)
    return same, different
