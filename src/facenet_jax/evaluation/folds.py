"""Accuracy at a threshold that was chosen on other pairs (section 5.6): over ten folds, or on a second set."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError


@dataclass(frozen=True)
class FoldsResult:
    """Accuracy over folds, each judged by the threshold that is best on all others.

    Attributes:
      accuracy: mean over the folds, in [0, 1].
      standard_error: standard deviation over the folds (ddof=1) / sqrt(folds).
      accuracies, thresholds: fold by fold; thresholds are squared L2 distances.
      correct: bool [pairs], whether each was judged right in its fold.
    """

    accuracy: float
    standard_error: float
    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]
    correct: NDArray[np.bool_]


def best_threshold(distances: NDArray[np.float32], same: NDArray[np.bool_]) -> float:
    """The threshold with the highest accuracy, where pairs with D <= threshold are judged "same".

    All thresholds between two neighbouring distances are equally good: the midpoint is taken, and of several equally
    good intervals the middle one.

    Args:
      distances: float32 [n].
      same: bool [n].

    Raises:
      InputError: there is no pair, or a distance is not finite.
    """
    if not len(distances) or not np.isfinite(distances).all():
        raise InputError("A threshold needs at least one pair, and finite distances; look for NaN in the embeddings.")
    order = np.argsort(distances, kind="stable")
    ascending, hits = distances[order].astype(np.float64), same[order]
    # With the threshold after the first k pairs, the same pairs among them and the different pairs beyond are right.
    right = np.append(0, np.cumsum(hits)) + (len(hits) - hits.sum() - np.append(0, np.cumsum(~hits)))
    # Equal distances cannot be separated.
    possible = np.append(True, np.append(ascending[1:] > ascending[:-1], True))
    places = np.flatnonzero(possible)
    best = places[right[places] == right[places].max()]
    place = int(best[(len(best) - 1) // 2])
    if place == 0:
        return float(np.nextafter(np.float32(ascending[0]), np.float32(-np.inf)))
    if place == len(ascending):
        return float(ascending[-1])
    return float((ascending[place - 1] + ascending[place]) / 2)


def accuracy_over_folds(
    distances: NDArray[np.float32], same: NDArray[np.bool_], fold: NDArray[np.int64]
) -> FoldsResult:
    """Mean accuracy and its standard error, each fold judged by the best threshold of all others.

    Args:
      distances: float32 [n].
      same: bool [n].
      fold: int64 [n], from 0.

    Raises:
      InputError: there are fewer than two folds, or one is empty.
    """
    folds = int(fold.max(initial=-1)) + 1
    sizes = np.bincount(fold, minlength=folds) if folds else np.zeros(0)
    if folds < 2 or np.any(sizes == 0):
        raise InputError(
            f"There are {int(np.count_nonzero(sizes))} folds with pairs; a threshold from other folds needs two."
        )
    correct = np.zeros(len(distances), bool)
    thresholds, accuracies = [], []
    for one in range(folds):
        here = fold == one
        threshold = best_threshold(distances[~here], same[~here])
        correct[here] = (distances[here] <= threshold) == same[here]
        thresholds.append(threshold)
        accuracies.append(float(correct[here].mean()))
    error = float(np.std(accuracies, ddof=1)) / math.sqrt(folds)
    return FoldsResult(float(np.mean(accuracies)), error, tuple(accuracies), tuple(thresholds), correct)


def format_folds(result: FoldsResult) -> str:
    """The result as lines of text for people."""
    lines = [
        f"  accuracy {100 * result.accuracy:.2f}% ± {100 * result.standard_error:.2f} over "
        f"{len(result.accuracies)} folds",
        f"  {'fold':<6}{'accuracy':<10}squared distance (threshold from the other folds)",
    ]
    for number, (accuracy, threshold) in enumerate(zip(result.accuracies, result.thresholds, strict=True), 1):
        lines.append(f"  {number:<6}{f'{100 * accuracy:.2f}%':<10}{threshold:.4f}")
    return "\n".join(lines)
