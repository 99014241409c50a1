"""Finds wrong labels, merged and split identities and near copies by the distances between embeddings.

All distances are squared, and means over faces. The distance of a face x from an identity is exactly 2 - 2 x.m, where m
is the mean of the identity's points, so that products of blocks of faces with these means suffice, in bounded memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError
from facenet_jax.evaluation.clustering import MOST_FACES, cut, merges

_BLOCK = 1024
# At most this many pairs are kept, 20 bytes each.
_MOST_PAIRS = 2**26
# An identity counts as two people if each has at least this many faces: a single odd face is a wrong label.
_LEAST_OF_ANOTHER = 2


@dataclass(frozen=True, eq=False)
class Nearness:
    """How near each face lies to its own identity, and to the nearest other.

    Attributes:
      own: float32 [n], mean distance from the nearer half of its identity's other faces, which are right ones as long
        as these are the majority; NaN where the identity has no other face.
      other: float32 [n], mean distance from the faces of the nearest other identity.
      nearest: int64 [n], that identity.
      typical_own, typical_other: medians over the faces that have both, typical of right labels.
    """

    own: NDArray[np.float32]
    other: NDArray[np.float32]
    nearest: NDArray[np.int64]
    typical_own: float
    typical_other: float

    @property
    def suspicion(self) -> NDArray[np.float32]:
        """float32 [n]: own minus other distance, in units of the typical difference between the two.

        Half of all faces lie below -1; above 0 the other identity is nearer; NaN without an own distance. The unit
        makes embedders comparable.
        """
        return (self.own - self.other) / np.float32(self.typical_other - self.typical_own)


def nearness(points: NDArray[np.float32], identity: NDArray[np.int64]) -> Nearness:
    """Compares each face with its own and with all other identities.

    Args:
      points: float32 [n, d], unit vectors.
      identity: int64 [n], ascending, the identity's number of each.

    Raises:
      InputError: there are no two identities, no identity has two faces, or most faces lie nearer to another identity.
    """
    numbers, starts, counts = np.unique(identity, return_index=True, return_counts=True)
    if len(numbers) < 2 or counts.max() < 2:
        raise InputError(
            f"The {len(points):,} faces are of {len(numbers):,} identities, none of which can be compared; labels are "
            "judged where there are two people, and one of them has two faces."
        )
    own = np.full(len(points), np.nan, np.float32)
    for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
        if count > 1:
            own[start : start + count] = _own(points[start : start + count])
    means = np.add.reduceat(points, starts, axis=0, dtype=np.float64) / counts[:, None]
    means = means.astype(np.float32)
    place = np.searchsorted(numbers, identity)
    other, nearest = np.empty(len(points), np.float32), np.empty(len(points), np.int64)
    for first in range(0, len(points), _BLOCK):
        rows = slice(first, first + _BLOCK)
        distances = 2 - 2 * (points[rows] @ means.T)
        within = np.arange(len(distances))
        distances[within, place[rows]] = np.inf
        columns = distances.argmin(1)
        other[rows], nearest[rows] = distances[within, columns], numbers[columns]
    both = np.isfinite(own)
    typical = float(np.median(own[both])), float(np.median(other[both]))
    if typical[0] >= typical[1]:
        raise InputError(
            f"A typical face lies no nearer to its own identity (squared distance {typical[0]:.3f}) than to the "
            f"nearest other ({typical[1]:.3f}): this embedder does not tell these people apart, or most labels "
            "are wrong; take a better embedder."
        )
    return Nearness(own, np.maximum(other, 0), nearest, *typical)


def _own(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """For each of one identity's faces, the mean distance from the nearer half of the others."""
    half = len(points) // 2
    found = [np.empty(0, np.float32)]
    for first in range(0, len(points), _BLOCK):
        distances = 2 - 2 * (points[first : first + _BLOCK] @ points.T)
        within = np.arange(len(distances))
        distances[within, first + within] = np.inf
        nearer = np.partition(distances, half - 1, axis=1)[:, :half]
        found.append(np.maximum(nearer.mean(1), 0))
    return np.concatenate(found)


def wrong_labels(near: Nearness, identity: NDArray[np.int64], least: float = 0.0) -> NDArray[np.int64]:
    """Faces that lie nearer to another identity than to their own, the most suspicious first.

    In an identity of two faces one wrong label makes both suspicious, since both have the same distance: the one that
    fits another identity better is taken, and the other is not judged.

    Args:
      near: of the faces.
      identity: int64 [n], ascending.
      least: suspicion from which on they are listed.
    """
    suspicion = near.suspicion
    _, place, counts = np.unique(identity, return_inverse=True, return_counts=True)
    found = np.flatnonzero(suspicion > least)
    found = found[np.argsort(-suspicion[found], kind="stable")]
    pairs = counts[place[found]] == 2
    _, first = np.unique(place[found], return_index=True)
    leads = np.zeros(len(found), bool)
    leads[first] = True
    return found[~pairs | leads]


@dataclass(frozen=True, eq=False)
class Merged:
    """An identity with two groups of faces.

    Attributes:
      identity: its number.
      parts: two arrays of faces, the larger first; faces of any further parts are in the larger.
      distance: mean, between the two.
      suspicion: 0 at the typical distance within an identity, 1 at the typical distance from the nearest other.
    """

    identity: int
    parts: tuple[NDArray[np.int64], NDArray[np.int64]]
    distance: float
    suspicion: float


def merged_identities(points: NDArray[np.float32], identity: NDArray[np.int64], near: Nearness) -> list[Merged]:
    """Identities that probably show two people, the surest first: average linkage splits them beyond a threshold.

    The threshold is the typical distance from the nearest other identity: two parts that lie farther apart differ at
    least as much as two similar people. Identities with more faces than fit in memory are passed over.
    """
    found = []
    numbers, starts, counts = np.unique(identity, return_index=True, return_counts=True)
    for number, start, count in zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True):
        if not 2 * _LEAST_OF_ANOTHER <= count <= MOST_FACES:
            continue
        own = points[start : start + count]
        parts = cut(merges(own), near.typical_other, count)
        sizes = np.bincount(parts)
        order = np.argsort(-sizes, kind="stable")
        if len(order) < 2 or sizes[order[1]] < _LEAST_OF_ANOTHER:
            continue
        second = parts == order[1]
        rest, apart = own[parts == order[0]].mean(0), own[second].mean(0)
        distance = float(2 - 2 * rest @ apart)
        found.append(
            Merged(
                number,
                (start + np.flatnonzero(~second), start + np.flatnonzero(second)),
                distance,
                (distance - near.typical_own) / (near.typical_other - near.typical_own),
            )
        )
    return sorted(found, key=lambda one: -one.suspicion)


@dataclass(frozen=True)
class Split:
    """Two identities that are probably one person.

    Attributes:
      identities: their numbers, the larger identity first.
      distance: mean, between their faces.
      suspicion: 0 at the typical distance from the nearest other identity, 1 at the typical distance from the own.
    """

    identities: tuple[int, int]
    distance: float
    suspicion: float


def split_identities(
    points: NDArray[np.float32], identity: NDArray[np.int64], near: Nearness, least: float = 0.5
) -> list[Split]:
    """Pairs of identities that are probably one person, the surest first: each is the other's nearest.

    Args:
      points, identity: as for `nearness`.
      near: of the faces.
      least: suspicion from which on they are listed.
    """
    numbers, starts, counts = np.unique(identity, return_index=True, return_counts=True)
    means = (np.add.reduceat(points, starts, axis=0, dtype=np.float64) / counts[:, None]).astype(np.float32)
    nearest, distance = np.empty(len(means), np.int64), np.empty(len(means), np.float32)
    for first in range(0, len(means), _BLOCK):
        distances = 2 - 2 * (means[first : first + _BLOCK] @ means.T)
        within = np.arange(len(distances))
        distances[within, first + within] = np.inf
        columns = distances.argmin(1)
        nearest[first + within], distance[first + within] = columns, distances[within, columns]
    found = []
    for one, two in enumerate(nearest.tolist()):
        suspicion = float((near.typical_other - distance[one]) / (near.typical_other - near.typical_own))
        if one < two and nearest[two] == one and suspicion > least:
            larger, smaller = (one, two) if counts[one] >= counts[two] else (two, one)
            found.append(Split((int(numbers[larger]), int(numbers[smaller])), float(distance[one]), suspicion))
    return sorted(found, key=lambda one: -one.suspicion)


def pairs_within(points: NDArray[np.float32], threshold: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """All pairs of faces up to a distance.

    Args:
      points: float32 [n, d], unit vectors.
      threshold: squared distance.

    Raises:
      InputError: there are too many to keep, so the distance does not separate people.

    Returns:
      (int64 [pairs, 2], the earlier face first; float32 [pairs], their distances), the nearest first.
    """
    pairs, distances = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    for top in range(0, len(points), _BLOCK):
        for left in range(top, len(points), _BLOCK):
            block = 2 - 2 * (points[top : top + _BLOCK] @ points[left : left + _BLOCK].T)
            close = block <= threshold
            if top == left:
                close &= np.triu(np.ones(block.shape, np.bool_), 1)
            rows, columns = np.nonzero(close)
            pairs.append(np.stack([top + rows, left + columns], axis=1))
            distances.append(np.maximum(block[rows, columns], 0))
        if sum(map(len, distances)) > _MOST_PAIRS:
            raise InputError(
                f"More than {_MOST_PAIRS:,} pairs of the {len(points):,} faces lie within a squared distance of "
                f"{threshold:.4f}: at this distance people are not separated; take a smaller threshold, "
                "or a better embedder."
            )
    found = np.concatenate(distances)
    order = np.argsort(found, kind="stable")
    return np.concatenate(pairs)[order], found[order]
