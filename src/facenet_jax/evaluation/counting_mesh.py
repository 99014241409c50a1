"""All pairs between two sets of faces, counted on the devices of a mesh.

A device cannot hand 10^10 distances over, but it counts them against many bounds as fast as it makes them. Rows are
dealt over the mesh in strips of constant height, columns come in tiles of constant width, so that a device's arithmetic
does not depend on how many others there are. The distance that decides a FAR is found by narrowing: the float32 numbers
that it may lie between are probed at evenly spaced places, and each pass over the pairs leaves the one interval that
holds it; the first pass probes where a sample of the pairs says that it should be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from numpy.typing import ArrayLike, NDArray

from facenet_jax.errors import InputError
from facenet_jax.evaluation.counting import checked, sampled_distances
from facenet_jax.evaluation.verification import OperatingPoint, allowed_accepts, check_fars, pairs_needed
from facenet_jax.runtime.mesh import DATA_AXIS, over_batch, replicated

TILE = 1024
# Bounds probed in one pass over the pairs, over all FARs together.
_PROBES = 96
_INFINITY = int(np.float32(np.inf).view(np.int32))


class _Counts(NamedTuple):
    """Of one strip: pairs with D <= each bound, and the largest D that does not exceed it."""

    same: jax.Array
    different: jax.Array
    largest: jax.Array


def operating_points_on_mesh(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    left_labels: ArrayLike,
    right_labels: ArrayLike,
    fars: Sequence[float],
    mesh: Mesh,
    tile: int = TILE,
) -> tuple[OperatingPoint, ...]:
    """VAL at each FAR over all pairs between two sets, every distance worked out on the mesh.

    Counts are exact: the same as `pair_distances` gives for the same distances. Distances are float32 at the highest
    precision of the device's matrix product.

    Args:
      left, right: [n, d] and [m, d] embeddings. The rows of `left` are divided over the mesh.
      left_labels, right_labels: [n] and [m] identities.
      fars: each in (0, 1].
      mesh: the devices.
      tile: rows and columns of the distances that a device has at one time.

    Raises:
      InputError: as `pair_distances`.
    """
    fars = check_fars(fars)
    left, right, ids_left, ids_right = checked(left, right, left_labels, right_labels)
    count = _Counter(left, right, ids_left, ids_right, mesh, tile)
    if count.same_pairs == 0:
        raise InputError("No pair shows the same identity, so VAL is undefined; give more faces of each identity.")
    different_pairs = count.different_pairs
    resolved = [far for far in fars if different_pairs >= pairs_needed(far)]
    targets = [allowed_accepts(far, different_pairs) + 1 for far in resolved]
    sample = np.sort(sampled_distances(left, right, ids_left, ids_right))
    bounds = _bounds(count, targets, different_pairs, sample)

    # Strictly below a bound is up to the float before it.
    before = np.array([np.int32(bound - 1) for bound in bounds], np.int32)
    same, false, largest = count(np.where(before < 0, np.float32(-1), before.view(np.float32)))
    found = {
        far: OperatingPoint(
            far=far,
            threshold=float(largest[i]) if same[i] + false[i] else None,
            val=int(same[i]) / count.same_pairs,
            far_reached=int(false[i]) / different_pairs,
            same_pairs=count.same_pairs,
            different_pairs=different_pairs,
            pairs_needed=pairs_needed(far),
        )
        for i, far in enumerate(resolved)
    }
    unresolved = partial(OperatingPoint, threshold=None, val=None, far_reached=None)
    return tuple(
        found[far]
        if far in found
        else unresolved(
            far, same_pairs=count.same_pairs, different_pairs=different_pairs, pairs_needed=pairs_needed(far)
        )
        for far in fars
    )


def _bounds(count: _Counter, targets: Sequence[int], different_pairs: int, sample: NDArray[np.float32]) -> list[int]:
    """For each target, the bits of the smallest float with so many different distances at or below it.

    Floats that are not negative are in the order of their bits read as integers.
    """
    if not targets:
        return []
    each = max(2, _PROBES // len(targets))
    # Invariant: fewer than the target at or below the float `low`, enough at or below `high`.
    low, high = [-1] * len(targets), [_INFINITY] * len(targets)
    first = [_first_probes(target / different_pairs, sample, each) for target in targets]
    while any(above - below > 1 for below, above in zip(low, high, strict=True)):
        probes = first or [_between(below, above, each) for below, above in zip(low, high, strict=True)]
        first = []
        bits = np.stack(probes).astype(np.int32)
        _, different, _ = count(bits.view(np.float32).ravel())
        for i, (row, counts) in enumerate(zip(bits, different.reshape(bits.shape), strict=True)):
            enough = counts >= targets[i]
            below, above = row[~enough], row[enough]
            low[i] = max(low[i], int(below.max(initial=-1)))
            high[i] = min(high[i], int(above.min(initial=_INFINITY)))
    return high


def _between(low: int, high: int, probes: int) -> NDArray[np.int64]:
    """Evenly spaced integers strictly between two, or as near as there are."""
    inner = low + (np.arange(1, probes + 1) * (high - low)) // (probes + 1)
    return np.clip(inner, min(low + 1, high), max(high - 1, low + 1))


def _first_probes(share: float, sample: NDArray[np.float32], probes: int) -> NDArray[np.int64]:
    """Floats around the quantile of a sample, six standard deviations to either side."""
    if not len(sample):
        return _between(-1, _INFINITY, probes)
    mean = share * len(sample)
    slack = 6 * math.sqrt(mean + 1) + 12
    low, high = (
        int(sample[int(np.clip(rank, 0, len(sample) - 1))].view(np.int32)) for rank in (mean - slack, mean + slack)
    )
    return _between(max(low - probes, -1), min(high + probes, _INFINITY), probes)


class _Counter:
    """Bounds -> how many same and different pairs lie within each, over all strips."""

    def __init__(
        self,
        left: NDArray[np.float32],
        right: NDArray[np.float32],
        ids_left: NDArray[np.int64],
        ids_right: NDArray[np.int64],
        mesh: Mesh,
        tile: int,
    ) -> None:
        largest = int(max(ids_left.max(initial=0), ids_right.max(initial=0))) + 1
        self.same_pairs = int(np.bincount(ids_left, minlength=largest) @ np.bincount(ids_right, minlength=largest))
        self.different_pairs = len(left) * len(right) - self.same_pairs
        self._mesh = mesh
        self._strip_rows = tile * mesh.shape[DATA_AXIS]
        self._left = _padded(left, ids_left, self._strip_rows)
        columns = [part.reshape(-1, tile, *part.shape[1:]) for part in _padded(right, ids_right, tile)]
        self._right = jax.device_put(tuple(columns), replicated(mesh))
        self._program = _program(mesh)

    def __call__(self, bounds: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        on_devices = jax.device_put(bounds, replicated(self._mesh))
        same, different = np.zeros(len(bounds), np.int64), np.zeros(len(bounds), np.int64)
        largest = np.full(len(bounds), -np.inf, np.float32)
        for top in range(0, len(self._left[0]), self._strip_rows):
            strip = tuple(part[top : top + self._strip_rows] for part in self._left)
            counts = self._program(jax.device_put(strip, over_batch(self._mesh)), self._right, on_devices)
            # A strip's counts fit into 32 bits; their sum may not, and JAX has no more without being told.
            same += np.asarray(counts.same, np.int64).sum(0)
            different += np.asarray(counts.different, np.int64).sum(0)
            largest = np.maximum(largest, np.asarray(counts.largest).max(0))
        return same, different, largest


def _padded(points: NDArray[np.float32], ids: NDArray[np.int64], multiple: int) -> tuple[NDArray[np.generic], ...]:
    """Points, squared norms and ids with rows added that are infinitely far from everybody."""
    more = -len(points) % multiple
    norms = np.einsum("nd,nd->n", points, points)
    return (
        np.pad(points, ((0, more), (0, 0))),
        np.pad(norms, (0, more), constant_values=np.inf),
        np.pad(ids.astype(np.int32), (0, more), constant_values=-1),
    )


def _program(mesh: Mesh) -> Callable[..., _Counts]:
    """The jitted count of one strip: (rows, columns, bounds) -> _Counts, each [devices, bounds]."""

    def strip(rows: tuple[jax.Array, ...], columns: tuple[jax.Array, ...], bounds: jax.Array) -> _Counts:
        left, left_norms, left_ids = rows

        def tile(so_far: _Counts, column: tuple[jax.Array, ...]) -> tuple[_Counts, None]:
            right, right_norms, right_ids = column
            products = jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)
            distances = jnp.maximum(left_norms[:, None] + right_norms - 2 * products, 0)
            is_same = left_ids[:, None] == right_ids

            def probe(bound: jax.Array) -> _Counts:
                within = distances <= bound
                return _Counts(
                    jnp.sum(within & is_same, dtype=jnp.int32),
                    jnp.sum(within & ~is_same, dtype=jnp.int32),
                    jnp.max(jnp.where(within, distances, -jnp.inf)),
                )

            here = jax.lax.map(probe, bounds)
            return _Counts(
                so_far.same + here.same,
                so_far.different + here.different,
                jnp.maximum(so_far.largest, here.largest),
            ), None

        zeros = jnp.zeros(bounds.shape, jnp.int32)
        nothing = _Counts(zeros, zeros, jnp.full(bounds.shape, -jnp.inf, jnp.float32))
        nothing = jax.tree.map(lambda x: jax.lax.pcast(x, DATA_AXIS, to="varying"), nothing)
        counts, _ = jax.lax.scan(tile, nothing, columns)
        return jax.tree.map(lambda x: x[None], counts)

    return jax.jit(jax.shard_map(strip, mesh=mesh, in_specs=(P(DATA_AXIS), P(), P()), out_specs=P(DATA_AXIS)))
