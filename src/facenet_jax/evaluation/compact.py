"""The 128-byte form of an embedding (section 5.4): one byte a coordinate, one step for all of them.

Vectors of integers times one step are as far apart as the integers are, times the step squared: an index searches them
as they lie. Their norms are no longer 1 to the last digit, which is part of the rounding error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEVELS = 127
# This many faces, evenly taken, have all of their pairs looked at when the error of distances is measured.
_PAIRED = 2000


@dataclass(frozen=True)
class Packed:
    """Vectors as bytes.

    Attributes:
      codes: int8 [n, d], from -127 to 127; a coordinate is its code times the step.
      step: of a code.
      clipped: how many coordinates lay beyond the codes.
      rounding: the largest distance (not squared) between a vector and its decoded form, which is the delta of
        `distance_error`; 0 if there is no vector.
    """

    codes: NDArray[np.int8]
    step: float
    clipped: int
    rounding: float

    @property
    def points(self) -> NDArray[np.float32]:
        """float32 [n, d], the decoded vectors."""
        return unpack(self.codes, self.step)


def calibrate(points: NDArray[np.float32]) -> float:
    """The step with which the largest coordinate of these vectors, [n, d] with n > 0, becomes 127 or -127."""
    return float(np.abs(points).max()) / _LEVELS


def pack(points: NDArray[np.float32], step: float) -> Packed:
    """Encodes vectors [n, d] as bytes; coordinates beyond 127 steps are clipped, and counted."""
    levels = np.rint(points / np.float64(step))
    codes = np.clip(levels, -_LEVELS, _LEVELS).astype(np.int8)
    off = np.linalg.norm(points - codes * np.float64(step), axis=1)
    return Packed(codes, step, int(np.sum(np.abs(levels) > _LEVELS)), float(off.max(initial=0)))


def unpack(codes: NDArray[np.int8], step: float) -> NDArray[np.float32]:
    """Decodes codes [n, d] to float32 [n, d]."""
    return (codes * np.float64(step)).astype(np.float32)


def distance_error(rounding: float, distance: float) -> float:
    """The largest error of a squared distance D between two rounded vectors: 2 delta sqrt(D) + delta^2.

    Args:
      rounding: delta, the sum of the rounding errors of both vectors.
      distance: D, between the vectors before rounding.
    """
    return 2 * rounding * math.sqrt(distance) + rounding**2


def largest_error(points: NDArray[np.float32], packed: NDArray[np.float32]) -> float:
    """The largest error of a squared distance seen between any two of up to 2,000 vectors, evenly taken.

    Args:
      points: float32 [n, d], the vectors before rounding.
      packed: float32 [n, d], the decoded vectors.
    """
    chosen = np.unique(np.linspace(0, len(points) - 1, min(_PAIRED, len(points))).astype(np.int64))
    before, after = (_squared_distances(side[chosen].astype(np.float64)) for side in (points, packed))
    return float(np.abs(after - before).max())


def _squared_distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.einsum("nd,nd->n", points, points)
    return norms[:, None] + norms - 2 * points @ points.T
