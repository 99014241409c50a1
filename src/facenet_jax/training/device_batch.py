"""Batches on the devices, the next one loaded while a step runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike
from numpy.typing import NDArray

from facenet_jax.images.change import NUMBERS
from facenet_jax.input.bad_files import BadFiles
from facenet_jax.input.loader import Batch
from facenet_jax.runtime.mesh import over_batch

# Between looks at whether a step still runs.
_LOOK_SECONDS = 0.002


class DeviceBatch(NamedTuple):
    """A global batch on the mesh, rows divided over it.

    Attributes:
      images: uint8 [B, rows, columns, 3].
      labels: int32 [B].
      valid: bool [B]; False rows take no part in selection or loss.
      numbers: float32 [B, images.change.NUMBERS], by which the step changes the faces; None: it takes them as they are.
      old: float32 [B, d], an old network's points of the faces as they are stored; None: there is no such network.
    """

    images: jax.Array
    labels: jax.Array
    valid: jax.Array
    numbers: jax.Array | None = None
    old: jax.Array | None = None


def abstract_batch(rows: int, input_size: tuple[int, int], mesh: Mesh, changed: bool, old_size: int = 0) -> Any:
    """A DeviceBatch of shapes, types and shardings, to compile the step for before there is a batch.

    Args:
      rows: of the global batch.
      input_size: (rows, columns) of a face in pixels.
      mesh: over which rows are divided.
      changed: whether the step changes the faces.
      old_size: coordinates of the old network's points; 0: there are none.
    """
    rows_of = over_batch(mesh)

    def of(dtype: DTypeLike, *sides: int) -> Any:
        return jax.ShapeDtypeStruct((rows, *sides), dtype, sharding=rows_of)

    return DeviceBatch(
        of(jnp.uint8, *input_size, 3),
        of(jnp.int32),
        of(jnp.bool_),
        of(jnp.float32, NUMBERS) if changed else None,
        of(jnp.float32, old_size) if old_size else None,
    )


def prefetch(
    batches: Iterator[tuple[int, Batch]],
    mesh: Mesh,
    bad_files: BadFiles,
    draw: Callable[[int, NDArray[np.int64]], NDArray[np.float32]] | None = None,
    running: Callable[[], bool] = lambda: False,
    old_points: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None,
) -> Generator[tuple[DeviceBatch, float]]:
    """Brings batches onto the devices, each while the step on the one before it runs.

    Close it, as with `contextlib.closing`, before `batches` is closed: its thread reads from there.

    Args:
      batches: (step, this process's rows), as the loader gives them.
      mesh: over which rows are divided.
      bad_files: is given every batch, and may end the run: its error is raised with the batch.
      draw: from a step and its records, the numbers by which the step changes the faces; None: it does not.
      old_points: from records, an old network's points; rows that have none are not valid. None: there is no network.
      running: whether the devices have a step to do, so that waiting for a batch costs nothing.

    Yields:
      A batch, and the seconds that were spent waiting for it while no step ran.
    """

    def divided(part: NDArray[Any] | jax.Array | None) -> Any:
        if part is None or isinstance(part, jax.Array):  # pixels that are kept on the devices
            return part
        return jax.make_array_from_process_local_data(over_batch(mesh), part)

    def load() -> DeviceBatch | None:
        step, batch = next(batches, (0, None))
        if batch is None:
            return None
        bad_files.update(batch)
        numbers = draw(step, batch.records) if draw else None
        valid, old = batch.valid, None
        if old_points:
            old = old_points(batch.records)
            valid = valid & np.isfinite(old).all(axis=1)
            old = np.where(valid[:, None], old, np.float32(0))
        there = DeviceBatch(*map(divided, (batch.images, batch.labels, valid, numbers, old)))
        # With the next batch the loader writes over pixels that it lent.
        return jax.block_until_ready(there)

    with ThreadPoolExecutor(1) as thread:
        loading = thread.submit(load)
        while True:
            while running() and not loading.done():
                wait([loading], timeout=_LOOK_SECONDS)
            started = time.perf_counter()
            batch = loading.result()
            if batch is None:
                return
            waited = time.perf_counter() - started
            loading = thread.submit(load)
            yield batch, waited
