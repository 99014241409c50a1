"""Protocol of rank-1 and open-set identification: naming enrolled people and rejecting strangers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facenet_jax.errors import InputError
from facenet_jax.evaluation.bootstrap import REPLICATES, identity_weights
from facenet_jax.evaluation.protocols.common import Report, add_against, add_folder, added, embed_faces
from facenet_jax.evaluation.request import Outcome, Request, heading, prepared_folder
from facenet_jax.evaluation.verification import (
    allowed_accepts,
    check_fars,
    pairs_needed,
    smallest_in_words,
    with_smallest,
)
from facenet_jax.runtime.hashing import permutation

_BLOCK = 1024
_DEAL_ENROLLED = 0x656E726F  # "enro"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --data, --against and --false-alarms."""
    add_folder(parser)
    add_against(parser)
    parser.add_argument("--false-alarms", type=float, nargs="+", default=[0.1, 0.01], help="rates (default: 0.1 0.01)")


def check(options: argparse.Namespace) -> None:
    """Raises InputError for a rate out of range."""
    check_fars(options.false_alarms)


def run(request: Request, options: argparse.Namespace) -> Outcome:
    """Rank-1 identification, and the open-set identification rate at false-alarm rates."""
    folder = prepared_folder(request, options.data)
    faces = embed_faces(request, folder)
    report = Report()
    for embedder, embedded, points, known in faces.by_embedder:
        result = identify(points, faces.labels, options.false_alarms, known=known)
        table = f"{heading(embedder, embedded)}\n{format_identification(result)}"
        document = asdict(result) | {
            "open_set": [asdict(rate) for rate in result.open_set],
            "smallest_far": added(options.false_alarms, [rate.false_alarm_rate for rate in result.open_set]),
        }
        report.add(table, embedder, request.crop, embedded, document)
    return report.outcome("identify", request, str(folder.root))


@dataclass(frozen=True)
class OpenSetRate:
    """Identification at a false-alarm rate.

    Attributes:
      false_alarm_rate: the share of strangers that may be taken for somebody enrolled.
      rate: the share of probes of enrolled people whose nearest exemplar is theirs and within the threshold; None if
        there are too few strangers.
      threshold: the largest distance between a stranger and an exemplar that keeps the rate; None if unresolved, or if
        nothing is accepted.
      reached: the share of strangers taken for somebody; None if unresolved.
      strangers_needed: how many probes of strangers the rate needs.
    """

    false_alarm_rate: float
    rate: float | None
    threshold: float | None
    reached: float | None
    strangers_needed: int


@dataclass(frozen=True)
class Identified:
    """The result of `identify`.

    Attributes:
      rank1: the share of probes whose nearest exemplar shows the same person, with everybody enrolled.
      standard_error: of rank1, people resampled with all their probes, since the probes of one person share an
        exemplar and are not independent.
      probes: how many probes rank1 is of.
      enrolled: people, one exemplar each, for rank-1.
      open_set: one for every false-alarm rate asked, half of the people enrolled; after them, where one needs more
        strangers, one for the smallest that there are enough for.
      open_enrolled, mated, strangers: people enrolled, probes of theirs, probes of others.
    """

    rank1: float
    standard_error: float
    probes: int
    enrolled: int
    open_set: tuple[OpenSetRate, ...]
    open_enrolled: int
    mated: int
    strangers: int


def identify(
    points: NDArray[np.float32],
    labels: ArrayLike,
    false_alarm_rates: Sequence[float] = (0.1, 0.01),
    seed: int = 0,
    known: NDArray[np.float32] | None = None,
) -> Identified:
    """Enrols the first face of each person as exemplar; all other faces are probes.

    For rank-1 everybody with two faces is enrolled (closed set). For the open set half of them are, dealt by a keyed
    permutation; the faces of the other half, and of people with one face, are the strangers.

    Args:
      points: float32 [n, d], unit vectors.
      labels: [n], the identity of each.
      false_alarm_rates: each in (0, 1].
      seed: deals the halves.
      known: float32 [n, d], the points of the same faces as exemplars; None: `points`.

    Raises:
      InputError: fewer than two people have two faces.
    """
    rates = check_fars(false_alarm_rates)
    enrolled = points if known is None else known
    _, first, ids, counts = np.unique(np.asarray(labels), return_index=True, return_inverse=True, return_counts=True)
    paired = np.flatnonzero(counts >= 2)
    if len(paired) < 2:
        raise InputError(
            f"{len(paired)} of {len(counts)} identities have two faces, and at least two such are needed; add faces."
        )
    is_exemplar = np.zeros(len(ids), bool)
    is_exemplar[first] = True
    probes = np.flatnonzero(~is_exemplar)
    _, nearest = _nearest(points[probes], enrolled[first[paired]])
    hits = paired[nearest] == ids[probes]

    order = paired[permutation(len(paired), _DEAL_ENROLLED, seed)]
    chosen = np.sort(order[: len(order) // 2])
    is_known = np.zeros(len(counts), bool)
    is_known[chosen] = True
    mated, strangers = probes[is_known[ids[probes]]], np.flatnonzero(~is_known[ids])
    distance, nearest = _nearest(points[mated], enrolled[first[chosen]])
    right = np.sort(distance[chosen[nearest] == ids[mated]])
    alarms = np.sort(_nearest(points[strangers], enrolled[first[chosen]])[0])
    return Identified(
        float(np.mean(hits)),
        _error_over_people(hits, ids[probes]),
        len(probes),
        len(paired),
        tuple(_open_set(rate, right, len(mated), alarms) for rate in with_smallest(rates, len(strangers))),
        len(chosen),
        len(mated),
        len(strangers),
    )


def format_identification(result: Identified) -> str:
    """The result as lines of text for people."""
    lines = [
        f"  rank-1 {100 * result.rank1:.1f}% ± {100 * result.standard_error:.1f} over people, of {result.probes:,} "
        f"probes, {result.enrolled:,} people enrolled by one face each",
        f"  open set: {result.open_enrolled:,} people enrolled, {result.mated:,} probes of theirs, "
        f"{result.strangers:,} of strangers",
        f"  {'identified':<12}{'false alarms':<14}{'reached':<10}threshold (squared distance)",
    ]
    for rate in result.open_set:
        if rate.rate is None or rate.reached is None:
            lines.append(
                f"  {'unresolved':<12}{rate.false_alarm_rate:<14.3g}needs {rate.strangers_needed:,} probes of strangers"
            )
            continue
        threshold = "-" if rate.threshold is None else f"{rate.threshold:.4f}"
        remark = smallest_in_words(rate.false_alarm_rate, result.strangers, "probes of strangers")
        line = f"  {f'{100 * rate.rate:.1f}%':<12}{rate.false_alarm_rate:<14.3g}{rate.reached:<10.3g}{threshold:<11}"
        lines.append(f"{line}{remark}".rstrip())
    return "\n".join(lines)


def _error_over_people(hits: NDArray[np.bool_], person: NDArray[np.intp]) -> float:
    """The standard error of the share of hits, bool [probes], by the bootstrap over the people that they show."""
    _, person = np.unique(person, return_inverse=True)
    probes = np.bincount(person)
    right = np.bincount(person, hits)
    # A hundred at a time: the weights of all replicates would take gigabytes with many people.
    some = [identity_weights(len(probes), 100, seed) for seed in range(REPLICATES // 100)]
    return float(np.std(np.concatenate([weights @ right / (weights @ probes) for weights in some]), ddof=1))


def _nearest(probes: NDArray[np.float32], gallery: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """For each probe, the distance to the nearest exemplar and its place; the first of equally near ones."""
    distances, places = np.empty(len(probes), np.float32), np.empty(len(probes), np.intp)
    norms = np.einsum("nd,nd->n", gallery, gallery)
    for start in range(0, len(probes), _BLOCK):
        part = probes[start : start + _BLOCK]
        tile = np.einsum("nd,nd->n", part, part)[:, None] + norms - 2 * (part @ gallery.T)
        nearest = tile.argmin(axis=1)
        places[start : start + _BLOCK] = nearest
        distances[start : start + _BLOCK] = np.maximum(tile[np.arange(len(part)), nearest], 0)
    return distances, places


def _open_set(rate: float, right: NDArray[np.float32], mated: int, alarms: NDArray[np.float32]) -> OpenSetRate:
    needed = pairs_needed(rate)
    if len(alarms) < needed:
        return OpenSetRate(rate, None, None, None, needed)
    allowed = allowed_accepts(rate, len(alarms))
    # As for VAL: distances strictly below the first alarm beyond those allowed are accepted.
    bound = alarms[allowed] if allowed < len(alarms) else np.inf
    found, false = int(np.searchsorted(right, bound)), int(np.searchsorted(alarms, bound))
    accepted = [float(values[count - 1]) for values, count in ((right, found), (alarms, false)) if count]
    threshold = max(accepted) if accepted else None
    return OpenSetRate(rate, found / mated, threshold, false / len(alarms), needed)
