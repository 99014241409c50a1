"""Lists the closest pairs with their identities, for resampling people and for naming wrong pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facenet_jax.evaluation.verification import OperatingPoint, PairDistances, allowed_accepts

_TILE = 1024
# Resampling more pairs than this would take minutes.
MOST = 2**22
# RESERVE times the false accepts that a FAR allows are kept, and at least _LEAST: replicates sometimes need a wider
# threshold, and a much wider one where few false accepts are allowed.
RESERVE, _LEAST = 3, 2**15


@dataclass(frozen=True)
class LabelledPairs:
    """All pairs of the same identity, and the closest of different ones, or all of them.

    Attributes:
      same: float32 [S], the distances of P_same; same_faces: int64 [S, 2], the faces of each.
      different: float32 [K], ascending; different_faces: int64 [K, 2].
      identity: int64 [faces], from 0 to identities - 1.
      identities: how many there are.
      left, right: int64 [identities], the faces that each identity has on either side where K is only a part of all
        pairs between two sides; right is None where all pairs within one set were judged; both None where K is all.
    """

    same: NDArray[np.float32]
    same_faces: NDArray[np.int64]
    different: NDArray[np.float32]
    different_faces: NDArray[np.int64]
    identity: NDArray[np.int64]
    identities: int
    left: NDArray[np.int64] | None = None
    right: NDArray[np.int64] | None = None

    def different_weight(self, weights: NDArray[np.float64]) -> float:
        """The size of P_diff where identity i counts weights[i] times, and a pair the product of its two weights."""
        if self.left is None:
            people = self.identity[self.different_faces]
            return float(np.sum(weights[people[:, 0]] * weights[people[:, 1]]))
        left = weights * self.left
        right = left if self.right is None else weights * self.right
        ordered = float(left.sum() * right.sum() - left @ right)
        return ordered / 2 if self.right is None else ordered


def listed(
    distances: NDArray[np.float32], faces: NDArray[np.int64], same: NDArray[np.bool_], identity: NDArray[np.int64]
) -> LabelledPairs:
    """Sorts pairs that are listed one by one.

    Args:
      distances: float32 [n].
      faces: int64 [n, 2].
      same: bool [n].
      identity: int64 [faces].
    """
    order = np.argsort(distances, kind="stable")
    is_same = same[order]
    return LabelledPairs(
        same=distances[order][is_same],
        same_faces=faces[order][is_same],
        different=distances[order][~is_same],
        different_faces=faces[order][~is_same],
        identity=identity,
        identities=int(identity.max(initial=-1)) + 1,
    )


def closest(
    points: NDArray[np.float32],
    identity: NDArray[np.int64],
    left: NDArray[np.intp],
    right: NDArray[np.intp] | None,
    counted: PairDistances,
    max_far: float,
    known: NDArray[np.float32] | None = None,
) -> LabelledPairs | None:
    """Finds the closest of all pairs between two sides, or within one set, and all pairs of the same identity.

    Args:
      points: float32 [faces, d].
      identity: int64 [faces].
      left, right: the faces on either side; right None: all pairs within left.
      counted: the same pairs, counted.
      max_far: the largest FAR that will be asked.
      known: float32 [faces, d], the points of the other side, the later one within one set; None: `points`.

    Returns:
      None where there would be too many for resampling.
    """
    wanted = max(RESERVE * allowed_accepts(max_far, counted.different_pairs), _LEAST)
    if min(wanted, counted.different_pairs) > MOST or counted.same_pairs > MOST:
        return None
    other = left if right is None else right
    # Distances here are summed in another order than in `counted`, and may be rounded to the other side of the cutoff.
    last = float(counted.different.nth(min(wanted, max(len(counted.different) - 1, 0))))
    cutoff = last * (1 + 1e-5) + 1e-6
    others = points if known is None else known
    norms, norms_of_others = (np.einsum("nd,nd->n", x, x) for x in (points, others))
    distances: list[NDArray[np.float32]] = []
    faces: list[NDArray[np.int64]] = []
    for top in range(0, len(left), _TILE):
        rows = left[top : top + _TILE]
        for start in range(0 if right is not None else top, len(other), _TILE):
            columns = other[start : start + _TILE]
            tile = norms[rows, None] + norms_of_others[columns] - 2 * (points[rows] @ others[columns].T)
            keep = (identity[rows, None] == identity[columns]) | (tile <= cutoff)
            if right is None and start == top:
                keep &= np.triu(np.ones(tile.shape, np.bool_), 1)
            at = np.nonzero(keep)
            distances.append(np.maximum(tile[at], 0))
            faces.append(np.stack([rows[at[0]], columns[at[1]]], axis=1).astype(np.int64))
    found = listed(
        np.concatenate([np.empty(0, np.float32), *distances]),
        pairs := np.concatenate([np.empty((0, 2), np.int64), *faces]),
        identity[pairs[:, 0]] == identity[pairs[:, 1]],
        identity,
    )
    if len(found.different) == counted.different_pairs:
        return found
    return replace(
        found,
        left=np.bincount(identity[left], minlength=found.identities),
        right=None if right is None else np.bincount(identity[right], minlength=found.identities),
    )


@dataclass(frozen=True)
class WrongPairs:
    """The pairs that a threshold judges wrong, and the people in them.

    Attributes:
      accepts: (face, face, distance) of different people within the threshold, the closest first.
      rejects: (face, face, distance) of one person beyond it, the farthest first.
      people: (identity, same pairs, of them rejected, false accepts with others), the worst first.
    """

    accepts: tuple[tuple[int, int, float], ...]
    rejects: tuple[tuple[int, int, float], ...]
    people: tuple[tuple[int, int, int, int], ...]


def wrong_pairs(pairs: LabelledPairs, point: OperatingPoint, most: int = 100) -> WrongPairs:
    """The pairs judged wrong at an operating point, at most `most` of each kind; none without a threshold."""
    if point.threshold is None:
        return WrongPairs((), (), ())
    threshold = np.float32(point.threshold)
    accepted = pairs.different <= threshold
    rejected = pairs.same > threshold
    accepts = np.flatnonzero(accepted)[:most]
    rejects = np.flatnonzero(rejected)[::-1][:most]
    same_of = pairs.identity[pairs.same_faces[:, 0]]
    total = np.bincount(same_of, minlength=pairs.identities)
    missed = np.bincount(same_of[rejected], minlength=pairs.identities)
    confused = np.bincount(pairs.identity[pairs.different_faces[accepted]].ravel(), minlength=pairs.identities)
    wrong = np.flatnonzero(missed + confused)
    return WrongPairs(
        _named(pairs.different_faces, pairs.different, accepts),
        _named(pairs.same_faces, pairs.same, rejects),
        worst([(int(i), int(total[i]), int(missed[i]), int(confused[i])) for i in wrong])[:most],
    )


def worst(people: Sequence[tuple[int, int, int, int]]) -> tuple[tuple[int, int, int, int], ...]:
    """People as in `WrongPairs`, by the share of their pairs that was rejected and their share of all false accepts."""
    accepts = max(1, sum(confused for *_, confused in people))
    return tuple(sorted(people, key=lambda p: -(p[2] / max(p[1], 1) + p[3] / accepts)))


def _named(
    faces: NDArray[np.int64], distances: NDArray[np.float32], places: NDArray[np.intp]
) -> tuple[tuple[int, int, float], ...]:
    return tuple((int(faces[i, 0]), int(faces[i, 1]), float(distances[i])) for i in places)
