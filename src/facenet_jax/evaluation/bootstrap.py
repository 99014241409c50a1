"""Confidence intervals of rates by bootstrap over people, and tests of two embedders on the same pairs.

Pairs that share a face are not independent, so resampling pairs gives intervals that are too narrow. People are
resampled here: in each replicate a person counts as often as drawn, a pair the product of its two people's counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facenet_jax.evaluation.labelled_pairs import LabelledPairs

REPLICATES = 1000
# Pairs are resampled only to show how much narrower their intervals are.
PAIR_REPLICATES = 200
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """Two embedders on the same pairs.

    Attributes:
      first, second: their names.
      what: the rate that is compared.
      difference: the second's rate minus the first's.
      low, high: the 95 % interval of the difference; None where the test gives none.
      p: the two-sided p-value.
      test: the name of the test.
    """

    first: str
    second: str
    what: str
    difference: float
    low: float | None
    high: float | None
    p: float
    test: str


def identity_weights(identities: int, replicates: int = REPLICATES, seed: int = 0) -> NDArray[np.float64]:
    """[replicates, identities]: how often each is drawn, with replacement, as many draws as there are identities."""
    rng = np.random.default_rng([seed, identities])
    return rng.multinomial(identities, np.full(identities, 1 / max(identities, 1)), replicates).astype(np.float64)


def val_over_identities(
    pairs: LabelledPairs, fars: Sequence[float], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """VAL at each FAR in each replicate.

    Args:
      pairs: those judged.
      fars: the FARs.
      weights: [replicates, identities].

    Returns:
      float64 [replicates, FARs]; NaN where a replicate has no pair of one of the kinds.
    """
    same_of = pairs.identity[pairs.same_faces[:, 0]]
    first, second = pairs.identity[pairs.different_faces].T
    return np.array(
        [
            _vals(pairs, fars, weight[same_of], weight[first] * weight[second], pairs.different_weight(weight))
            for weight in weights
        ]
    ).reshape(len(weights), len(fars))


def val_over_pairs(
    pairs: LabelledPairs,
    fars: Sequence[float],
    different_pairs: int,
    replicates: int = PAIR_REPLICATES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """As `val_over_identities`, with pairs drawn as if they were independent of each other."""
    rng = np.random.default_rng(seed)
    # With this many pairs, how often each is drawn is Poisson-distributed to a good approximation.
    beyond = different_pairs - len(pairs.different)
    rows = []
    for _ in range(replicates):
        same = rng.poisson(1, len(pairs.same)).astype(np.float64)
        different = rng.poisson(1, len(pairs.different)).astype(np.float64)
        rows.append(_vals(pairs, fars, same, different, different.sum() + rng.poisson(beyond)))
    return np.array(rows).reshape(replicates, len(fars))


def interval(replicates: NDArray[np.float64]) -> tuple[float, float] | None:
    """The 95 % percentile interval; None with fewer than two finite replicates."""
    there = replicates[np.isfinite(replicates)]
    if len(there) < 2:
        return None
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(there, [tail, 1 - tail])
    return float(low), float(high)


def compare_replicates(
    first: tuple[str, float, NDArray[np.float64]], second: tuple[str, float, NDArray[np.float64]], what: str
) -> Comparison:
    """The paired bootstrap: both embedders are judged on the same people in every replicate.

    Args:
      first, second: name, rate, and the rate in each replicate, drawn with the same weights.
      what: the rate.
    """
    differences = second[2] - first[2]
    differences = differences[np.isfinite(differences)]
    ends = interval(differences)
    tail = min(np.mean(differences <= 0), np.mean(differences >= 0)) if len(differences) else 1.0
    p = min(1.0, max(2 * float(tail), 1 / max(len(differences), 1)))
    low, high = ends or (None, None)
    return Comparison(first[0], second[0], what, second[1] - first[1], low, high, p, "paired bootstrap over identities")


def mcnemar(first: tuple[str, NDArray[np.bool_]], second: tuple[str, NDArray[np.bool_]]) -> Comparison:
    """The exact McNemar test of two accuracies, by the pairs that only one of the embedders judges right.

    Args:
      first, second: name, and bool [pairs] whether each is judged right.
    """
    only_first = int(np.sum(first[1] & ~second[1]))
    only_second = int(np.sum(~first[1] & second[1]))
    discordant = only_first + only_second
    fewer = min(only_first, only_second)
    tail = sum(math.comb(discordant, k) for k in range(fewer + 1))
    p = min(1.0, 2 * tail / 2**discordant)
    difference = float(np.mean(second[1]) - np.mean(first[1]))
    return Comparison(
        first[0],
        second[0],
        "accuracy",
        difference,
        None,
        None,
        p,
        f"exact McNemar test, {only_first} pairs right by the first alone, {only_second} by the second alone",
    )


def _vals(
    pairs: LabelledPairs,
    fars: Sequence[float],
    same: NDArray[np.float64],
    different: NDArray[np.float64],
    different_weight: float,
) -> list[float]:
    """VAL at each FAR where pairs count as often as their weights; the distances are ascending."""
    total = same.sum()
    if total == 0 or different_weight == 0:
        return [math.nan] * len(fars)
    accepted_same = np.append(0.0, np.cumsum(same))
    accepted_different = np.cumsum(different)
    vals = []
    for far in fars:
        # The first different pair that goes beyond the FAR bounds the threshold, as in `operating_point`.
        place = int(np.searchsorted(accepted_different, far * different_weight * (1 + 1e-12), side="right"))
        bound = pairs.different[place] if place < len(pairs.different) else _beyond(pairs)
        vals.append(float(accepted_same[np.searchsorted(pairs.same, bound, side="left")] / total))
    return vals


def _beyond(pairs: LabelledPairs) -> np.float32:
    """The bound beyond the kept distances: infinity if every pair is kept, or else the largest kept distance."""
    if pairs.left is None or not len(pairs.different):
        return np.float32(np.inf)
    return np.float32(pairs.different[-1])
