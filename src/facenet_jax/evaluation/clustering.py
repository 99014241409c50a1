"""Agglomerative clustering by mean squared distance, and its scores: B-cubed and pairwise F."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage

# All pairwise distances are in memory, in float64, twice while SciPy merges: 10^4 faces take 800 MB.
MOST_FACES = 20_000
# Rows of distances computed at one time.
_ROWS = 512


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
    # Without any pair the score is perfect.
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
    # SciPy's condensed form, the upper triangle row by row; filled in place, so that no full matrix is held.
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


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0
