"""Times exact counting of all pairs of two sets of faces, compared with the bare blocked matrix product.

    python -m benchmarks.evaluation --faces 100000         (or `make bench-evaluation`)

The faces are synthetic: unit vectors around a centre for each identity, 50 faces each.
"""

from __future__ import annotations

import argparse
import resource
import time

import jax
import numpy as np
from numpy.typing import NDArray

from facenet_jax.evaluation.counting import TILE, pair_distances
from facenet_jax.evaluation.verification import operating_point

FARS = (1e-2, 1e-3, 1e-4, 1e-6)


def made_up(faces: int, size: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors [faces, size] and their identities."""
    rng = np.random.default_rng(seed)
    labels = np.arange(faces) % max(2, faces // 50)
    centres = np.random.default_rng(0).normal(size=(labels.max() + 1, size)).astype(np.float32)
    points = centres[labels] + rng.normal(size=(faces, size)).astype(np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True), labels


def bare_product(left: NDArray[np.float32], right: NDArray[np.float32], tile: int) -> float:
    """Seconds for all tiles of left @ right.T, one after the other, which are discarded."""
    room = np.empty((tile, tile), np.float32)
    begin = time.perf_counter()
    for top in range(0, len(left), tile):
        for start in range(0, len(right), tile):
            rows, columns = left[top : top + tile], right[start : start + tile]
            np.matmul(rows, columns.T, out=room[: len(rows), : len(columns)])
    return time.perf_counter() - begin


def bare_product_on_device(left: NDArray[np.float32], right: NDArray[np.float32], tile: int) -> float:
    """The same by XLA on the default device; the sum of each tile is kept, so that XLA computes it."""

    @jax.jit
    def strip(rows: jax.Array, columns: jax.Array) -> jax.Array:
        def product(column: jax.Array) -> jax.Array:
            return jax.numpy.matmul(rows, column.T, precision=jax.lax.Precision.HIGHEST).sum()

        return jax.lax.map(product, columns)

    whole = len(right) // tile * tile
    columns = jax.device_put(right[:whole].reshape(-1, tile, right.shape[1]))
    strip(jax.device_put(left[:tile]), columns).block_until_ready()
    begin = time.perf_counter()
    for top in range(0, len(left) // tile * tile, tile):
        strip(jax.device_put(left[top : top + tile]), columns).block_until_ready()
    return time.perf_counter() - begin


def main() -> None:
    """Prints times, their ratio and the memory taken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=100_000, help="faces on each side")
    parser.add_argument("--size", type=int, default=128, help="of the embedding")
    parser.add_argument("--devices", action="store_true", help="count on JAX's devices instead of through NumPy")
    options = parser.parse_args()

    left, left_labels = made_up(options.faces, options.size, 1)
    right, right_labels = made_up(options.faces, options.size, 2)
    print(f"{options.faces:,} x {options.faces:,} pairs of {options.size}-D vectors, tile {TILE}")
    devices = jax.local_devices() if options.devices else []
    pair_distances(left[:5000], right[:5000], left_labels[:5000], right_labels[:5000], max(FARS), devices=devices)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, worked = time.perf_counter(), time.process_time()
    pairs = pair_distances(left, right, left_labels, right_labels, max(FARS), devices=devices)
    points = tuple(operating_point(pairs, far) for far in FARS)
    where = f"{len(devices)} {devices[0].platform} devices" if devices else "NumPy"
    counted, worked = time.perf_counter() - begin, time.process_time() - worked
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    product = bare_product_on_device if options.devices else bare_product
    tiles = [tile for tile in (TILE, 4 * TILE) if tile <= options.faces]
    times, works = {}, {}
    for tile in tiles:
        before_it = time.process_time()
        times[tile] = product(left, right, tile)
        works[tile] = time.process_time() - before_it
    fastest = min(times, key=times.__getitem__)
    print(f"counted exactly at {len(FARS)} FARs ({where}): {counted:.1f} s, {worked:.1f} CPU s")
    print(f"memory beyond the embeddings: {taken:.2f} GiB")
    for tile, seconds in times.items():
        print(f"bare product, tile {tile}: {seconds:.1f} s, {works[tile]:.1f} CPU s")
    # On a busy machine the ratio of CPU time is the better one.
    print(f"ratio to the faster: {counted / times[fastest]:.2f}, in CPU time {worked / min(works.values()):.2f}")
    for point in points:
        val, threshold = ("unresolved" if x is None else f"{x:.6f}" for x in (point.val, point.threshold))
        print(f"FAR {point.far:g}: VAL {val}, threshold {threshold}")


if __name__ == "__main__":
    main()
