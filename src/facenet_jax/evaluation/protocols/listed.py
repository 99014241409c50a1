"""Code that protocols on published lists of pairs share: the list, its distances, accuracy over folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.engine import EmbeddedFaces, Images
from facenet_jax.errors import InputError
from facenet_jax.evaluation.against import Against
from facenet_jax.evaluation.bootstrap import Comparison, identity_weights, interval, mcnemar
from facenet_jax.evaluation.folds import FoldsResult, accuracy_over_folds, format_folds
from facenet_jax.evaluation.pair_metrics import (
    PairMetrics,
    format_interval,
    format_rates,
    metrics_of_listed_pairs,
    metrics_to_json,
)
from facenet_jax.evaluation.plots import accuracy_figure
from facenet_jax.evaluation.protocols.common import Report, compare_metrics, metrics_figures, wrong_to_json
from facenet_jax.evaluation.request import AnyEmbedder, Outcome, Request, heading
from facenet_jax.images.cut import FaceCutter


@dataclass(frozen=True)
class PairList:
    """Pairs of images or of videos.

    Attributes:
      keys: the images (or videos) that occur, each once.
      pairs: int64 [n, 2], numbers into keys.
      same: bool [n].
      fold: int64 [n], from 0.
      people: the name of the person that each key shows.
    """

    keys: tuple[str, ...]
    pairs: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    people: tuple[str, ...]

    def without(self, names: set[str]) -> PairList:
        """Without the pairs that show one of these people; keys stay."""
        kept = np.array([not names & {self.people[i], self.people[j]} for i, j in self.pairs], bool)
        if not kept.any():
            raise InputError("Every pair shows somebody who was trained on; give pairs of other people.")
        _, fold = np.unique(self.fold[kept], return_inverse=True)
        return PairList(self.keys, self.pairs[kept], self.same[kept], fold.astype(np.int64), self.people)


@dataclass(frozen=True)
class ListedDistances:
    """An embedder on a list of pairs.

    Attributes:
      embedder: which.
      embedded: its result for the images.
      usable: bool [listed pairs], those of which it could use both images.
      distances: float32 [usable pairs].
    """

    embedder: AnyEmbedder | Against
    embedded: EmbeddedFaces
    usable: NDArray[np.bool_]
    distances: NDArray[np.float32]


def listed_distances(
    request: Request, listed: PairList, images: Images, cutter: FaceCutter | None = None
) -> list[ListedDistances]:
    """The squared distances of a list's pairs, by each embedder."""
    embedded = [request.embed(embedder, images, cutter) for embedder in request.embedders]
    compared = [_distances(e, one, one, listed) for e, one in zip(request.embedders, embedded, strict=True)]
    if request.against:
        old, new = request.embedders
        both, (known, asked) = Against(new, old), embedded
        both.check_sizes(asked.points.shape[1], known.points.shape[1])
        compared.insert(1, _distances(both, asked, known, listed))
    return compared


def _distances(
    embedder: AnyEmbedder | Against, first: EmbeddedFaces, second: EmbeddedFaces, listed: PairList
) -> ListedDistances:
    """The distances from the first face of each pair to the second, each face by its own embedding."""
    there = first.usable[listed.pairs[:, 0]] & second.usable[listed.pairs[:, 1]]
    difference = first.points_of(listed.pairs[there, 0]) - second.points_of(listed.pairs[there, 1])
    return ListedDistances(embedder, first, there, np.einsum("nd,nd->n", difference, difference))


def usable_by_all(compared: Sequence[ListedDistances]) -> list[ListedDistances]:
    """The distances of only those pairs that every embedder could judge, as comparisons need them."""
    there = np.logical_and.reduce([one.usable for one in compared])
    return [replace(one, usable=there, distances=one.distances[there[one.usable]]) for one in compared]


def without_known(request: Request, listed: PairList) -> PairList:
    """The list without people that an embedder was trained on, unless they are to stay."""
    known = request.known_names(sorted(set(listed.people)))
    return listed.without(known) if known and request.leave_out else listed


def listed_metrics(listed: PairList, one: ListedDistances, fars: Sequence[float]) -> PairMetrics:
    """The metrics of the pairs that an embedder could use."""
    _, identity = np.unique(np.array(listed.people), return_inverse=True)
    pairs, same = listed.pairs[one.usable], listed.same[one.usable]
    return metrics_of_listed_pairs(one.distances, pairs, same, identity.astype(np.int64), fars)


def accuracy_interval(
    listed: PairList, one: ListedDistances, right: NDArray[np.bool_], replicates: int = 1000
) -> tuple[float, float] | None:
    """The 95 % interval of the accuracy, people resampled."""
    _, identity = np.unique(np.array(listed.people), return_inverse=True)
    first, second = identity[listed.pairs[one.usable]].T
    weights = identity_weights(int(identity.max()) + 1, replicates)
    counts = np.where(first == second, weights[:, first], weights[:, first] * weights[:, second])
    totals = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return interval((counts @ right) / totals)


def compare_accuracies(correct: Sequence[tuple[str, NDArray[np.bool_]]]) -> list[Comparison]:
    """Compares every later embedder with the first; each is (name, bool [pairs] whether each is judged right)."""
    first = correct[0]
    return [mcnemar(first, other) for other in correct[1:]]


def over_folds(
    protocol: str,
    request: Request,
    places: tuple[Path, Path],
    listed: PairList,
    compared: Sequence[ListedDistances],
    fars: Sequence[float],
    title: str,
) -> Outcome:
    """Accuracy over the folds of a list, with its metrics.

    Args:
      protocol: its name.
      request: what was asked.
      places: of the faces, and of the list.
      listed, compared: the pairs, and the distances of each embedder.
      fars: for the rates.
      title: of the figures.
    """
    report, correct = Report(), []
    metrics: dict[str, PairMetrics] = {}
    folds: dict[str, FoldsResult] = {}
    for one in usable_by_all(compared):
        same, fold = listed.same[one.usable], listed.fold[one.usable]
        name = one.embedder.name
        folds[name] = result = accuracy_over_folds(one.distances, same, fold)
        metrics[name] = rates = listed_metrics(listed, one, fars)
        ends = accuracy_interval(listed, one, result.correct)
        correct.append((name, result.correct))
        table = (
            f"{heading(one.embedder, one.embedded)}\n{format_folds(result)}\n"
            f"  95 % over people: {format_interval(ends)}\n  {format_rates(rates)}"
        )
        document = metrics_to_json(rates) | {
            "accuracy": result.accuracy,
            "standard_error": result.standard_error,
            "accuracy_over_identities": ends,
            "accuracies": list(result.accuracies),
            "thresholds": list(result.thresholds),
            "wrong": wrong_to_json(rates.wrong, listed.keys, np.array(listed.people)),
        }
        report.add(table, one.embedder, request.crop, one.embedded, document)
    return report.outcome(
        protocol,
        request,
        str(places[0]),
        pairs=str(places[1]),
        comparisons=compare_accuracies(correct) + compare_metrics(metrics, fars),
        figures=metrics_figures(metrics, title) | {"folds.png": partial(accuracy_figure, folds, title)},
    )


def read_file(path: Path) -> bytes:
    """The bytes of a file; InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from error


def check_folds(listed: PairList, path: Path, hint: str = "") -> PairList:
    """The list itself, which must have two folds or more: the threshold for one comes from the others.

    Raises:
      InputError: it has one.
    """
    if len(np.unique(listed.fold)) < 2:
        raise InputError(
            f"{path} has one fold of pairs, and two are needed: the threshold for each comes from the others{hint}."
        )
    return listed


def is_number(part: str) -> bool:
    """Whether a part of a line is a number as lists of pairs have them: ASCII digits that fit into an int64."""
    return part.isascii() and part.isdigit() and len(part) <= 18
