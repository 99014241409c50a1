"""Groups points into people by agglomerative clustering (section 5.8), or by k-means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from facenet_jax.curation.label_errors import pairs_within
from facenet_jax.errors import InputError, how_to_install
from facenet_jax.evaluation.clustering import MOST_FACES, cut, merges

# A set that is too large is cut apart at this share of the distance, repeatedly.
_TIGHTER = 0.98
# Only copies of a file are nearer than this: float32 does not resolve less.
_SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Grouped:
    """Faces in groups.

    Attributes:
      people: int64 [n], the group of each face: 0 has the most faces.
      method: how they were found, in words.
    """

    people: NDArray[np.int64]
    method: str

    @property
    def sizes(self) -> NDArray[np.int64]:
        """int64 [groups], the faces of each, descending."""
        return np.bincount(self.people)


def group(points: NDArray[np.float32], threshold: float, most_faces: int = MOST_FACES) -> Grouped:
    """Groups faces up to a distance.

    The two groups with the least mean squared distance are merged until none are within the threshold. Two groups whose
    mean distance is within the threshold have a pair of faces within it, so each set of faces connected by such pairs
    is grouped by itself, with the same result, and only the pairs of the largest set have to fit in memory. If a set
    has more than `most_faces`, its longest pairs are cut until it falls apart; its groups may then be smaller.

    Args:
      points: float32 [n, d], unit vectors.
      threshold: squared L2 distance.
      most_faces: the largest number of faces of which all pairs fit in memory.

    Raises:
      InputError: far too many pairs are within the threshold, or far too many faces are copies of one.
    """
    if len(points) <= most_faces:
        return Grouped(_by_size(cut(merges(points), threshold, len(points))), "average linkage")
    pairs, distances = pairs_within(points, threshold)
    limit = threshold
    while True:
        sets = _connected(pairs, len(points))
        too_large = np.bincount(sets)[sets[pairs[:, 0]]] > most_faces
        if not too_large.any():
            break
        limit *= _TIGHTER
        if limit < _SAME:
            raise InputError(f"More than {most_faces:,} faces are one and the same point: take copies out first.")
        kept = ~too_large | (distances <= limit)
        pairs, distances = pairs[kept], distances[kept]
    found = np.empty(len(points), np.int64)
    order = np.argsort(sets, kind="stable")
    groups = 0
    for here in np.split(order, np.flatnonzero(np.diff(sets[order])) + 1):
        found[here] = groups + cut(merges(points[here]), threshold, len(here))
        groups = int(found[here].max()) + 1
    exactly = "" if limit == threshold else f", sets of more than {most_faces:,} faces cut apart at {limit:.4f}"
    return Grouped(_by_size(found), f"average linkage of connected sets{exactly}")


def _connected(pairs: NDArray[np.int64], count: int) -> NDArray[np.int32]:
    """int32 [count], the connected component of each."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    sets: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return sets


def k_means(points: NDArray[np.float32], people: int) -> Grouped:
    """Groups faces into a given number of people by k-means (the best of ten starts, the same every time).

    Args:
      points: float32 [n, d], unit vectors.
      people: how many.

    Raises:
      InputError: there are fewer faces, or scikit-learn is missing.
    """
    if not 1 <= people <= len(points):
        raise InputError(
            f"--people={people:,} is not possible with {len(points):,} faces: give a number from 1 to {len(points):,}."
        )
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise InputError(f"--people needs scikit-learn: {how_to_install('cluster')}.") from error
    found = KMeans(people, n_init=10, random_state=0).fit_predict(points)
    return Grouped(_by_size(found), "k-means")


def _by_size(found: NDArray[np.integer]) -> NDArray[np.int64]:
    """Groups renumbered, the largest first; of equally large ones the one with the earlier face."""
    _, first, groups, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[groups]
