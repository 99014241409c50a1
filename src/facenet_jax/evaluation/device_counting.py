"""Computes distances of a strip of pairs and sorts them into bins on an accelerator.

The accelerator's version of a strip of `counting`: a device computes and counts a tile's distances, and returns only
those that are kept. Strips go to the devices in turn; all tiles have one shape, so that one program serves all of them,
and a device's arithmetic does not depend on how many others there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from facenet_jax.evaluation.verification import BINS

# Rows and columns of a device's tile: 16 MB of distances, which fit into an accelerator's cache.
TILE = 2048
_LEAST_KEPT = 2**12


def accelerators() -> Sequence[jax.Device]:
    """The devices that count pairs; none on a CPU, where NumPy on threads is faster than XLA."""
    return [] if jax.default_backend() == "cpu" else jax.local_devices()


class Sides(NamedTuple):
    """Two sets of faces, sorted by identity, of which all pairs are counted, or all within one where `squared`.

    The distance of two faces, in bins, is the product of their rows: float32 [n, d + 2] and [m, d + 2]; ids int64.
    """

    left: NDArray[np.float32]
    right: NDArray[np.float32]
    ids_left: NDArray[np.int64]
    ids_right: NDArray[np.int64]
    squared: bool


class DeviceStrips:
    """Strips of rows against all columns, on devices."""

    def __init__(self, sides: Sides, tile: int, devices: Sequence[jax.Device]) -> None:
        """Hands the columns to every device."""
        left, right, ids_left, ids_right, squared = sides
        self._left, self._squared, self._tile, self._devices = (left, ids_left), squared, tile, devices
        columns = [_padded(right, ids_right, start, tile) for start in range(0, len(right), tile)]
        self._columns = [jax.device_put(columns, device) for device in devices]

    def __call__(
        self, top: int, cutoff: np.float32
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """A strip from row `top` on: distances of same pairs, of different pairs below the cutoff, and a histogram."""
        turn = top // self._tile
        device = turn % len(self._devices)
        rows = jax.device_put(_padded(*self._left, top, self._tile), self._devices[device])
        first = turn if self._squared else 0
        same: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
        close: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
        below = np.zeros(BINS + 1, np.int64)
        for place, columns in enumerate(self._columns[device][first:], first):
            distances, is_same, keep, counts = _tile(rows, columns, cutoff, self._squared and place == turn)
            below += np.asarray(counts, np.int64)
            count = int(keep.sum())
            # Rounded up to a power of two: few programs for all numbers of kept distances.
            size = min(max(_LEAST_KEPT, 1 << max(count - 1, 0).bit_length()), self._tile**2)
            kept, of_same = (np.asarray(part)[:count] for part in _kept(distances, is_same, keep, size=size))
            same.append(kept[of_same])
            close.append(kept[~of_same])
        return np.concatenate(same), np.concatenate(close), np.diff(below)


def _padded(
    points: NDArray[np.float32], ids: NDArray[np.int64], start: int, tile: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A tile's rows and their ids; padding rows have the id -1."""
    rows, names = points[start : start + tile], ids[start : start + tile].astype(np.int32)
    more = tile - len(rows)
    return np.pad(rows, ((0, more), (0, 0))), np.pad(names, (0, more), constant_values=-1)


@jax.jit
def _tile(
    rows: tuple[jax.Array, jax.Array], columns: tuple[jax.Array, jax.Array], cutoff: jax.Array, diagonal: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Distances in bins, which of them are of same pairs, which are kept, and different pairs below each edge."""
    (left, left_ids), (right, right_ids) = rows, columns
    distances = jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)
    above = jnp.arange(len(left))[:, None] < jnp.arange(len(right))
    pairs = (left_ids[:, None] >= 0) & (right_ids >= 0) & (above | ~diagonal)
    same = pairs & (left_ids[:, None] == right_ids)
    different = pairs & ~same
    # Values that rounding made negative are in the first bin, far ones in the last.
    edges = jnp.arange(1, BINS, dtype=distances.dtype)[:, None, None]
    inner = jnp.sum(different & (distances < edges), axis=(1, 2), dtype=jnp.int32)
    below = jnp.concatenate([jnp.zeros(1, jnp.int32), inner, jnp.sum(different, dtype=jnp.int32)[None]])
    return distances, same, same | (different & (distances < cutoff)), below


@partial(jax.jit, static_argnames="size")
def _kept(distances: jax.Array, same: jax.Array, keep: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The distances that are kept, and whether each is of a same pair; padded to `size` at the end."""
    at = jnp.flatnonzero(keep, size=size)
    return distances.ravel()[at], same.ravel()[at]
