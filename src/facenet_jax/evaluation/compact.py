"""The 128-byte form of an embedding (section 5.4): one byte a coordinate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEVELS = 127


def to_bytes(points: NDArray[np.float32]) -> NDArray[np.int8]:
    """Unit vectors [n, d] as int8 [n, d]: the largest coordinate of each becomes 127 or -127.

    The scale of each vector need not be kept: vectors have norm 1, so it follows from the bytes.
    """
    largest = np.abs(points).max(axis=1, keepdims=True)
    return np.rint(points * (_LEVELS / largest)).astype(np.int8)


def from_bytes(packed: NDArray[np.int8]) -> NDArray[np.float32]:
    """int8 [n, d] as unit vectors, float32 [n, d]."""
    wide = packed.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
