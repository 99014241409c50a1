"""The hold-out protocol (section 4.1): VAL at a FAR, mean and standard error over disjoint splits of the identities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facenet_jax.embedders.base import UNIT_NORM_TOLERANCE
from facenet_jax.errors import InputError
from facenet_jax.evaluation.bootstrap import identity_weights, interval, val_over_identities, val_over_pairs
from facenet_jax.evaluation.counting import check_finite, pair_distances
from facenet_jax.evaluation.distance_counts import DistanceCounts
from facenet_jax.evaluation.labelled_pairs import MOST, RESERVE, WrongPairs, closest, wrong_pairs
from facenet_jax.evaluation.verification import (
    OperatingPoint,
    PairDistances,
    check_fars,
    operating_point,
    roc,
    smallest_in_words,
    with_smallest,
)
from facenet_jax.runtime.hashing import permutation

# With fewer identities than this in a split there are hardly any different people to confuse.
MIN_IDENTITIES_PER_SPLIT = 4

# Keys this permutation ("hold" in ASCII), so that it shares no random numbers with others of the same seed.
_DEAL_IDENTITIES = 0x686F6C64

# The faces of a split's left and right half.
Half = tuple[NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True)
class HoldoutSplit:
    """One split: all pairs between its two halves.

    Attributes:
      points: one operating point for every FAR asked, in that order.
      area: under the ROC curve.
      equal_error_rate: where FAR equals 1 - VAL.
      roc_far, roc_val: the ROC curve, float64, both ascending.
    """

    identities: int
    faces: int
    same_pairs: int
    different_pairs: int
    points: tuple[OperatingPoint, ...]
    area: float
    equal_error_rate: float
    roc_far: NDArray[np.float64] = field(repr=False, compare=False)
    roc_val: NDArray[np.float64] = field(repr=False, compare=False)


@dataclass(frozen=True)
class HoldoutRate:
    """VAL at one FAR over all splits.

    Attributes:
      far: the FAR asked.
      val: mean VAL in [0, 1]; None if a split has too few pairs to resolve this FAR.
      standard_error: standard deviation over the splits (ddof=1) / sqrt(splits); None if unresolved, or if there is one
        split only.
      threshold: mean squared L2 distance; None if unresolved, or if a split has no threshold.
      far_reached: mean FAR of the splits, each at its own threshold; None if unresolved.
      pairs_needed: pairs of different identities that this FAR needs in every split.
      far_at_threshold: the share of all splits' different pairs that the mean threshold accepts; None without one, or
        if too few distances are kept to count it.
    """

    far: float
    val: float | None
    standard_error: float | None
    threshold: float | None
    far_reached: float | None
    pairs_needed: int
    far_at_threshold: float | None = None


@dataclass(frozen=True)
class HoldoutResult:
    """The result of `holdout`.

    Attributes:
      identities, faces: those that took part; identities with a single face do not.
      same_pairs, different_pairs: sums over the splits.
      rates: one for every FAR asked, in that order.
      splits: the splits one by one.
      seed: the seed that dealt the identities into splits.
    """

    identities: int
    faces: int
    same_pairs: int
    different_pairs: int
    rates: tuple[HoldoutRate, ...]
    splits: tuple[HoldoutSplit, ...]
    seed: int


def holdout(
    embeddings: NDArray[np.float32],
    labels: ArrayLike,
    fars: Sequence[float] = (1e-2, 1e-3),
    splits: int = 5,
    seed: int = 0,
    tolerance: float = UNIT_NORM_TOLERANCE,
    known: NDArray[np.float32] | None = None,
) -> HoldoutResult:
    """Measures embeddings by the paper's hold-out protocol.

    Identities with at least two faces, numbered in order of appearance, are dealt into splits by a keyed permutation.
    The faces of each identity go alternately to the left and the right half of its split, in their given order, and
    every face of the left half is judged against every face of the right. Where there are too few identities for
    `splits` splits of at least four each there are fewer splits, down to one.

    Args:
      embeddings: float32 [n, d], unit vectors.
      labels: [n], the identity of each face; numbers or names, of which only equality matters.
      fars: the false accept rates to report, each in (0, 1].
      splits: how many, at most.
      seed: deals the identities.
      tolerance: how far from 1 norms may be; vectors that were rounded need more.
      known: float32 [n, d], the points of the same faces in the right halves, such as an old embedder's; None:
        `embeddings`.

    Raises:
      InputError: shapes that do not fit, embeddings that are not finite unit vectors, or fewer than two identities with
        two faces each.
    """
    points, ids, halves = _dealt(embeddings, labels, splits, seed, tolerance)
    others = points if known is None else _dealt(known, labels, splits, seed, tolerance)[0]
    fars = check_fars(fars)
    measured: list[HoldoutSplit] = []
    different: list[DistanceCounts | None] = []
    for left, right in halves:
        # The other splits' thresholds may accept more here than was asked.
        few = RESERVE * max(fars) * len(left) * len(right) <= MOST
        max_far = min(1.0, RESERVE * max(fars)) if few else max(fars)
        pairs = pair_distances(points[left], others[right], ids[left], ids[right], max_far)
        measured.append(_split(ids, (left, right), pairs, fars))
        different.append(pairs.different if few else None)
    return HoldoutResult(
        identities=sum(split.identities for split in measured),
        faces=sum(split.faces for split in measured),
        same_pairs=sum(split.same_pairs for split in measured),
        different_pairs=sum(split.different_pairs for split in measured),
        rates=tuple(_over_splits([split.points[i] for split in measured], different) for i in range(len(fars))),
        splits=tuple(measured),
        seed=seed,
    )


def resolved_fars(labels: ArrayLike, fars: Sequence[float], splits: int = 5, seed: int = 0) -> tuple[float, ...]:
    """The FARs given, and if one of them needs more pairs, also the smallest FAR that every split resolves.

    Args:
      labels, splits, seed: as for `holdout`.
      fars: each in (0, 1].

    Raises:
      InputError: fewer than two identities have two faces each.
    """
    ids, halves = _deal(np.asarray(labels), splits, seed)
    return with_smallest(fars, min(_different_pairs(ids[left], ids[right]) for left, right in halves))


def format_holdout(result: HoldoutResult) -> str:
    """The result as lines of text for people: VAL in percent and its standard error in percentage points."""
    one_split = len(result.splits) == 1
    fewest = min(split.different_pairs for split in result.splits)
    lines = [
        f"hold-out: {result.faces:,} faces of {result.identities:,} identities, "
        f"{'one split' if one_split else f'{len(result.splits)} splits'}; "
        f"{result.same_pairs:,} same and {result.different_pairs:,} different pairs",
        f"  {'VAL':<14}{'FAR asked':<12}{'FAR reached':<14}threshold (squared distance)",
    ]
    for rate in result.rates:
        if rate.val is None or rate.far_reached is None:
            lines.append(
                f"  {'unresolved':<14}{rate.far:<12.3g}needs {rate.pairs_needed:,} different pairs"
                f"{'' if one_split else ' in every split'}, has {fewest:,}"
            )
            continue
        error = "-" if rate.standard_error is None else f"{100 * rate.standard_error:.1f}"
        threshold = "-" if rate.threshold is None else f"{rate.threshold:.4f}"
        line = f"  {f'{100 * rate.val:.1f}% ± {error}':<14}{rate.far:<12.3g}{rate.far_reached:<14.3g}{threshold:<12}"
        remarks = smallest_in_words(rate.far, fewest), "(one split)" if one_split else ""
        lines.append(line + " ".join(filter(None, remarks)))
    return "\n".join(line.rstrip() for line in lines)


def areas(result: HoldoutResult) -> tuple[float, float]:
    """The area under the ROC curve and the equal error rate, means over the splits."""
    area, rate = np.mean([(split.area, split.equal_error_rate) for split in result.splits], axis=0)
    return float(area), float(rate)


def format_areas(result: HoldoutResult) -> str:
    """Both `areas` as a line of text for people."""
    area, rate = areas(result)
    means = ", means over splits" if len(result.splits) > 1 else ""
    return f"  area under the ROC curve {area:.5f}, equal error rate {100 * rate:.2f}%{means}"


def format_evaluation(result: HoldoutResult) -> str:
    """The table that a run prints: the rates, and if a FAR is unresolved, the area and the equal error rate."""
    resolved = all(rate.val is not None for rate in result.rates)
    return format_holdout(result) + ("" if resolved else f"\n{format_areas(result)}")


def holdout_to_json(result: HoldoutResult) -> dict[str, Any]:
    """The result as plain numbers, strings, lists and None, ready for `json.dumps`; without the ROC curves."""
    plain = asdict(result)
    plain["rates"] = list(plain["rates"])
    plain["splits"] = [
        {key: list(value) if key == "points" else value for key, value in split.items() if not key.startswith("roc_")}
        for split in plain["splits"]
    ]
    return plain


@dataclass(frozen=True)
class HoldoutIntervals:
    """Intervals of the mean VAL over the splits, and the pairs that are judged wrong.

    Attributes:
      over_identities: the 95 % interval at each FAR asked, people resampled within their splits; None where a FAR is
        unresolved, or there are too many pairs for it.
      over_pairs: the same with pairs resampled, as if they were independent of each other.
      replicates: float64 [replicates, FARs], mean VAL with people resampled; None where there are too many pairs.
      wrong: for each split, the wrong pairs at the last FAR that is resolved.
    """

    over_identities: tuple[tuple[float, float] | None, ...]
    over_pairs: tuple[tuple[float, float] | None, ...]
    replicates: NDArray[np.float64] | None
    wrong: tuple[WrongPairs, ...]


def holdout_intervals(
    embeddings: NDArray[np.float32],
    labels: ArrayLike,
    fars: Sequence[float] = (1e-2, 1e-3),
    splits: int = 5,
    seed: int = 0,
    tolerance: float = UNIT_NORM_TOLERANCE,
    known: NDArray[np.float32] | None = None,
) -> HoldoutIntervals:
    """Bootstrap intervals of the result of `holdout` for the same arguments, with the same errors."""
    points, ids, halves = _dealt(embeddings, labels, splits, seed, tolerance)
    others = points if known is None else _dealt(known, labels, splits, seed, tolerance)[0]
    fars = check_fars(fars)
    weights = identity_weights(int(ids.max()) + 1)
    people: list[NDArray[np.float64]] = []
    pairs_drawn: list[NDArray[np.float64]] = []
    wrong = []
    resolved = np.ones(len(fars), bool)
    nothing = (None,) * len(fars)
    if max(fars) * max(len(left) * len(right) for left, right in halves) > MOST:
        return HoldoutIntervals(nothing, nothing, None, ())
    # More than asked, so that every replicate finds its threshold among the kept distances.
    max_far = min(1.0, RESERVE * max(fars))
    for left, right in halves:
        counted = pair_distances(points[left], others[right], ids[left], ids[right], max_far)
        at = [operating_point(counted, far) for far in fars]
        resolved &= [point.resolved for point in at]
        found = [far for far, point in zip(fars, at, strict=True) if point.resolved]
        labelled = closest(points, ids, left, right, counted, max(found), others) if found else None
        if labelled is None:
            return HoldoutIntervals(nothing, nothing, None, ())
        people.append(val_over_identities(labelled, fars, weights))
        pairs_drawn.append(val_over_pairs(labelled, fars, counted.different_pairs))
        wrong.append(wrong_pairs(labelled, next(point for point in reversed(at) if point.resolved)))
    replicates = np.where(resolved, np.mean(people, axis=0), np.nan)
    over_pairs = np.where(resolved, np.mean(pairs_drawn, axis=0), np.nan)
    return HoldoutIntervals(
        tuple(interval(column) for column in replicates.T),
        tuple(interval(column) for column in over_pairs.T),
        replicates,
        tuple(wrong),
    )


def _dealt(
    embeddings: NDArray[np.float32], labels: ArrayLike, splits: int, seed: int, tolerance: float
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[Half]]:
    """Checked points, identity numbers, and for each split the faces of its two halves."""
    points, names = np.asarray(embeddings, np.float32), np.asarray(labels)
    _check_embeddings(points, names, tolerance)
    return points, *_deal(names, splits, seed)


def _deal(names: NDArray[Any], splits: int, seed: int) -> tuple[NDArray[np.int64], list[Half]]:
    """Identity numbers, and for each split the faces of its two halves."""
    if splits < 1:
        raise InputError(
            f"The hold-out protocol was asked for {splits} splits; ask for at least one (the paper has five)."
        )
    _, first, ids, counts = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    appearance = np.argsort(first)
    identities = appearance[counts[appearance] >= 2]
    if len(identities) < 2:
        raise InputError(
            f"The hold-out set has {len(identities)} of {len(counts)} identities with two faces or more, and false "
            "accepts need two such identities; add faces of more people."
        )
    used = max(1, min(splits, len(identities) // MIN_IDENTITIES_PER_SPLIT))
    split_of = np.full(len(counts), -1)
    split_of[identities[permutation(len(identities), _DEAL_IDENTITIES, seed)]] = np.arange(len(identities)) % used

    # A face's turn is its place among the faces of its identity; even turns go left, odd ones right.
    by_identity = np.argsort(ids, kind="stable")
    turn = np.empty(len(ids), np.int64)
    turn[by_identity] = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    halves = []
    for split in range(used):
        left, right = (np.flatnonzero((split_of[ids] == split) & (turn % 2 == half)) for half in (0, 1))
        halves.append((left, right))
    return ids.astype(np.int64), halves


def _different_pairs(left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    """Pairs between two halves, given by their identities, that show different people."""
    most = int(max(left.max(), right.max())) + 1
    return len(left) * len(right) - int(np.bincount(left, minlength=most) @ np.bincount(right, minlength=most))


def _check_embeddings(points: NDArray[np.float32], names: NDArray[Any], tolerance: float) -> None:
    if points.ndim != 2 or names.shape != points.shape[:1]:
        raise InputError(
            f"Embeddings of shape {points.shape} with labels of shape {names.shape} cannot be evaluated; "
            "give [n, d] and [n]."
        )
    check_finite(points)
    norms = np.linalg.norm(points, axis=1)
    off = np.abs(norms - 1) > tolerance
    if off.any():
        worst = int(np.argmax(off))
        raise InputError(
            f"The embedding of face {worst} has norm {norms[worst]:.4g} instead of 1 ({int(off.sum())} of "
            f"{len(points)} are off); normalise embeddings to unit length."
        )


def _split(ids: NDArray[np.int64], half: Half, pairs: PairDistances, fars: Sequence[float]) -> HoldoutSplit:
    curve = roc(pairs)
    left, right = half
    return HoldoutSplit(
        identities=len(np.unique(ids[left])),
        faces=len(left) + len(right),
        same_pairs=pairs.same_pairs,
        different_pairs=pairs.different_pairs,
        points=tuple(operating_point(pairs, far) for far in fars),
        area=curve.area,
        equal_error_rate=curve.equal_error_rate,
        roc_far=curve.far,
        roc_val=curve.val,
    )


def _over_splits(points: Sequence[OperatingPoint], different: Sequence[DistanceCounts | None]) -> HoldoutRate:
    """Mean and standard error of one FAR's operating points; different: the closest pairs of each split."""
    far, needed = points[0].far, points[0].pairs_needed
    vals = [point.val for point in points if point.val is not None]
    reached = [point.far_reached for point in points if point.far_reached is not None]
    thresholds = [point.threshold for point in points if point.threshold is not None]
    if len(vals) < len(points):
        return HoldoutRate(far, None, None, None, None, needed)
    threshold = float(np.mean(thresholds)) if len(thresholds) == len(points) else None
    return HoldoutRate(
        far=far,
        val=float(np.mean(vals)),
        standard_error=float(np.std(vals, ddof=1)) / math.sqrt(len(vals)) if len(vals) > 1 else None,
        threshold=threshold,
        far_reached=float(np.mean(reached)),
        pairs_needed=needed,
        far_at_threshold=None if threshold is None else _far_at(threshold, points, different),
    )


def _far_at(
    threshold: float, points: Sequence[OperatingPoint], different: Sequence[DistanceCounts | None]
) -> float | None:
    """The share of all splits' different pairs up to a distance; None if a split does not keep all of these."""
    accepted = 0
    for point, kept in zip(points, different, strict=True):
        if kept is None or (len(kept) < point.different_pairs and kept.values[-1] < threshold):
            return None
        accepted += int(kept.at_most(threshold))
    return accepted / sum(point.different_pairs for point in points)
