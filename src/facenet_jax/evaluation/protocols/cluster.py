"""Protocol of section 5.8: agglomerative clustering at a threshold, scored by B-cubed and pairwise F."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facenet_jax.errors import InputError
from facenet_jax.evaluation import clustering
from facenet_jax.evaluation.clustering import ClusterScore, cut, merges, score
from facenet_jax.evaluation.protocols.common import Report, add_folder, embed_faces
from facenet_jax.evaluation.request import Outcome, Request, heading, prepared_folder
from facenet_jax.evaluation.verification import check_threshold
from facenet_jax.runtime.hashing import permutation

_CANDIDATES = 200
_DEAL_TUNING = 0x636C7573  # "clus"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --data and --threshold."""
    add_folder(parser)
    parser.add_argument("--threshold", type=float, help="squared distance (default: the best on half of the people)")


def check(options: argparse.Namespace) -> None:
    """Raises InputError for a threshold out of range."""
    if options.threshold is not None:
        check_threshold(options.threshold)


def run(request: Request, options: argparse.Namespace) -> Outcome:
    """Clusters, their scores, and the largest of them."""
    folder = prepared_folder(request, options.data)
    faces = embed_faces(request, folder)
    report = Report()
    for embedder, embedded, points, _ in faces.by_embedder:
        result = cluster(points, faces.labels, options.threshold)
        document = asdict(result.score) | {"threshold": result.threshold, "chosen_on": result.chosen_on}
        document["clusters_shown"] = _largest_clusters(result, [faces.keys[i] for i in result.faces])
        table = f"{heading(embedder, embedded)}\n{format_clustered(result)}"
        report.add(table, embedder, request.crop, embedded, document)
    return report.outcome("cluster", request, str(folder.root))


@dataclass(frozen=True)
class Clustered:
    """The result of `cluster`.

    Attributes:
      score: on the faces that the threshold was not chosen on.
      threshold: mean squared distance up to which clusters are merged.
      chosen_on: how many faces of other people the threshold was chosen on; 0 where it was given.
      faces: int64, which faces were scored.
      labels: int64, the cluster of each, from 0.
    """

    score: ClusterScore
    threshold: float
    chosen_on: int
    faces: NDArray[np.intp]
    labels: NDArray[np.int64]


def cluster(points: NDArray[np.float32], labels: ArrayLike, threshold: float | None = None, seed: int = 0) -> Clustered:
    """Merges the two nearest clusters, by the mean squared distance of their faces, until none are within a threshold.

    Args:
      points: float32 [n, d], unit vectors.
      labels: [n], the identity of each.
      threshold: squared L2 distance; None: that with the best B-cubed F on half of the identities, dealt by a keyed
        permutation, is taken, and the other half is scored.
      seed: deals the halves.

    Raises:
      InputError: too many faces, or fewer than two identities.
    """
    names, ids = np.unique(np.asarray(labels), return_inverse=True)
    if len(names) < 2:
        raise InputError(f"The faces show {len(names)} identities; clusters of one alone say nothing: add people.")
    if len(points) > clustering.MOST_FACES:
        raise InputError(
            f"Clustering holds all pairs of {len(points):,} faces in memory; give at most {clustering.MOST_FACES:,} "
            "faces."
        )
    scored = np.arange(len(points))
    chosen_on = 0
    if threshold is None:
        half = np.zeros(len(names), bool)
        half[permutation(len(names), _DEAL_TUNING, seed)[: len(names) // 2]] = True
        tuning, scored = np.flatnonzero(half[ids]), np.flatnonzero(~half[ids])
        threshold, chosen_on = _best_threshold(points[tuning], ids[tuning]), len(tuning)
    found = cut(merges(points[scored]), threshold, len(scored))
    return Clustered(score(found, ids[scored]), threshold, chosen_on, scored, found)


def format_clustered(result: Clustered) -> str:
    """The result as lines of text for people."""
    s = result.score
    source = f"chosen on {result.chosen_on:,} faces of other people" if result.chosen_on else "given"
    return "\n".join(
        [
            f"  {s.faces:,} faces of {s.identities:,} identities in {s.clusters:,} clusters; threshold a squared "
            f"distance of {result.threshold:.4f}, {source}",
            f"  {'':<10}{'precision':<11}{'recall':<9}F",
            f"  {'B-cubed':<10}{f'{100 * s.bcubed_precision:.1f}%':<11}{f'{100 * s.bcubed_recall:.1f}%':<9}"
            f"{100 * s.bcubed_f:.1f}%",
            f"  {'pairwise':<10}{f'{100 * s.pairwise_precision:.1f}%':<11}{f'{100 * s.pairwise_recall:.1f}%':<9}"
            f"{100 * s.pairwise_f:.1f}%",
        ]
    )


def _best_threshold(points: NDArray[np.float32], ids: NDArray[np.intp]) -> float:
    tree = merges(points)
    if not len(tree):
        raise InputError("The half of the identities on which the threshold is chosen has one face; give a threshold.")
    heights = np.unique(tree[:, 2])
    candidates = np.unique(np.quantile(heights, np.linspace(0, 1, min(_CANDIDATES, len(heights))), method="nearest"))
    scores = [score(cut(tree, height, len(points)), ids).bcubed_f for height in candidates]
    place = int(np.argmax(scores))
    # Up to the next merge all thresholds give the same clusters: the midpoint is the safest.
    above = heights[heights > candidates[place]]
    return float((candidates[place] + above[0]) / 2) if len(above) else float(candidates[place])


def _largest_clusters(result: Clustered, keys: Sequence[str], most: int = 12) -> list[list[str]]:
    sizes = np.bincount(result.labels)
    return [
        [keys[i] for i in np.flatnonzero(result.labels == c)[:60]] for c in np.argsort(-sizes, kind="stable")[:most]
    ]
