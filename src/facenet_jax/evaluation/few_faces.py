"""Distances between a few pictures of a few people (Figure 1 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PEOPLE, PICTURES = 3, 3


def few_faces(points: NDArray[np.float32], labels: NDArray[Any], keys: Sequence[str]) -> dict[str, Any]:
    """The first pictures of the first people who have enough, and the squared distances between all of them.

    Args:
      points: float32 [n, d], unit vectors.
      labels: [n], the identity of each.
      keys: the name of each face.

    Returns:
      `keys`, `people` (their numbers, from 0) and `distances` [faces, faces], plain lists for JSON, which are
      empty if no person has enough pictures.
    """
    names, first, counts = np.unique(labels, return_index=True, return_counts=True)
    enough = np.flatnonzero(counts >= PICTURES)
    people = names[enough[np.argsort(first[enough])]][:PEOPLE]
    chosen = np.concatenate([np.empty(0, np.int64), *(np.flatnonzero(labels == one)[:PICTURES] for one in people)])
    few = points[chosen].astype(np.float64)
    distances = np.sum((few[:, None] - few) ** 2, axis=-1)
    return {
        "keys": [keys[i] for i in chosen],
        "people": np.repeat(np.arange(len(people)), PICTURES).tolist(),
        "distances": np.round(distances, 4).tolist(),
    }
