"""Section 5.8: agglomerative clustering, judged by B-cubed and pairwise F."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from facenet_jax.errors import InputError
from facenet_jax.runtime.hashing import permutation

# All pairs of distances are in memory, in float64, and once more while SciPy merges: 10^4 faces take 800 MB.
MOST_FACES = 20_000
_CANDIDATES = 200
# Of distances worked out together.
_ROWS = 512
_DEAL_TUNING = 0x636C7573  # "clus"


@dataclass(frozen=True)
class ClusterScore:
    """How well clusters agree with identities; each in [0, 1].

    Attributes:
      bcubed_precision, bcubed_recall, bcubed_f: over faces, the share of a face's cluster that is of its identity, the
        share of its identity that is in its cluster, and their harmonic mean.
      pairwise_precision, pairwise_recall, pairwise_f: over pairs of faces that are in one cluster, or of one identity.
      clusters, identities, faces: how many there are.
    """

    bcubed_precision: float
    bcubed_recall: float
    bcubed_f: float
    pairwise_precision: float
    pairwise_recall: float
    pairwise_f: float
    clusters: int
    identities: int
    faces: int


@dataclass(frozen=True)
class Clustered:
    """What `cluster` measured.

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
    if len(points) > MOST_FACES:
        raise InputError(
            f"Clustering holds all pairs of {len(points):,} faces in memory; give at most {MOST_FACES:,} faces."
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


def score(clusters: ArrayLike, identities: ArrayLike) -> ClusterScore:
    """B-cubed and pairwise figures of a clustering.

    Args:
      clusters, identities: [n], a label for each face.
    """
    _, c = np.unique(np.asarray(clusters), return_inverse=True)
    _, i = np.unique(np.asarray(identities), return_inverse=True)
    # Faces by (cluster, identity), of which only those that occur matter.
    cells, counts = np.unique(np.stack([c, i]), axis=1, return_counts=True)
    in_cluster, in_identity = np.bincount(c), np.bincount(i)
    n = len(c)
    precision = float(np.sum(counts**2 / in_cluster[cells[0]]) / n)
    recall = float(np.sum(counts**2 / in_identity[cells[1]]) / n)
    together, same_cluster, same_identity = (int(np.sum(k * (k - 1) // 2)) for k in (counts, in_cluster, in_identity))
    # Without a pair nothing is wrong.
    pair_precision = together / same_cluster if same_cluster else 1.0
    pair_recall = together / same_identity if same_identity else 1.0
    return ClusterScore(
        precision,
        recall,
        _harmonic(precision, recall),
        pair_precision,
        pair_recall,
        _harmonic(pair_precision, pair_recall),
        len(in_cluster),
        len(in_identity),
        n,
    )


def format_clustered(result: Clustered) -> str:
    """The result as lines of text for people."""
    s = result.score
    source = f"chosen on {result.chosen_on:,} faces of other people" if result.chosen_on else "given"
    return "\n".join(
        [
            f"  {s.faces:,} faces of {s.identities:,} identities in {s.clusters:,} clusters; threshold "
            f"{result.threshold:.4f}, {source}",
            f"  {'':<10}{'precision':<11}{'recall':<9}F",
            f"  {'B-cubed':<10}{f'{100 * s.bcubed_precision:.1f}%':<11}{f'{100 * s.bcubed_recall:.1f}%':<9}"
            f"{100 * s.bcubed_f:.1f}%",
            f"  {'pairwise':<10}{f'{100 * s.pairwise_precision:.1f}%':<11}{f'{100 * s.pairwise_recall:.1f}%':<9}"
            f"{100 * s.pairwise_f:.1f}%",
        ]
    )


def merges(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """The merges by mean linkage of squared distances, float64 [n - 1, 4] as SciPy writes them.

    Args:
      points: float32 [n, d].
    """
    count = len(points)
    if count < 2:
        return np.empty((0, 4))
    wide = points.astype(np.float64)
    norms = np.einsum("nd,nd->n", wide, wide)
    # SciPy's form, the upper triangle row by row: filled so, it is all that is held.
    condensed = np.empty(count * (count - 1) // 2)
    end = 0
    for top in range(0, count - 1, _ROWS):
        rows = wide[top : top + _ROWS]
        block = norms[top : top + _ROWS, None] + norms[top:] - 2 * (rows @ wide[top:].T)
        for row in range(len(block)):
            start, end = end, end + count - 1 - top - row
            condensed[start:end] = block[row, row + 1 :]
    return np.asarray(linkage(np.maximum(condensed, 0, out=condensed), "average"))


def cut(tree: NDArray[np.float64], threshold: float, faces: int) -> NDArray[np.int64]:
    """The clusters that merging up to a threshold gives, int64 [faces], from 0.

    Args:
      tree: as `merges` gives it.
      threshold: mean squared distance.
      faces: how many there are.
    """
    if not len(tree):
        return np.zeros(faces, np.int64)
    return np.asarray(fcluster(tree, threshold, "distance"), np.int64) - 1


def _best_threshold(points: NDArray[np.float32], ids: NDArray[np.intp]) -> float:
    tree = merges(points)
    if not len(tree):
        raise InputError("The half of the identities on which the threshold is chosen has one face; give a threshold.")
    heights = np.unique(tree[:, 2])
    candidates = np.unique(np.quantile(heights, np.linspace(0, 1, min(_CANDIDATES, len(heights))), method="nearest"))
    scores = [score(cut(tree, height, len(points)), ids).bcubed_f for height in candidates]
    place = int(np.argmax(scores))
    # Until the next merge nothing changes: the middle of that stretch is the safest.
    above = heights[heights > candidates[place]]
    return float((candidates[place] + above[0]) / 2) if len(above) else float(candidates[place])


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0
