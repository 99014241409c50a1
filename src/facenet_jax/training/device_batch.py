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
    """

    images: jax.Array
    labels: jax.Array
    valid: jax.Array
    numbers: jax.Array | None = None


def abstract_batch(rows: int, input_size: tuple[int, int], mesh: Mesh, changed: bool) -> Any:
    """A DeviceBatch of shapes, types and shardings, to compile the step for before there is a batch.

    Args:
      rows: of the global batch.
      input_size: (rows, columns) of a face in pixels.
      mesh: over which rows are divided.
      changed: whether the step changes the faces.
    """
    rows_of = over_batch(mesh)
    shapes: list[Any] = [
        jax.ShapeDtypeStruct((rows, *input_size, 3), jnp.uint8, sharding=rows_of),
        jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=rows_of),
        jax.ShapeDtypeStruct((rows,), jnp.bool_, sharding=rows_of),
    ]
    if changed:
        shapes.append(jax.ShapeDtypeStruct((rows, NUMBERS), jnp.float32, sharding=rows_of))
    return DeviceBatch(*shapes)


def prefetch(
    batches: Iterator[tuple[int, Batch]],
    mesh: Mesh,
    bad_files: BadFiles,
    draw: Callable[[int, NDArray[np.int64]], NDArray[np.float32]] | None = None,
    running: Callable[[], bool] = lambda: False,
) -> Generator[tuple[DeviceBatch, float]]:
    """Brings batches onto the devices, each while the step on the one before it runs.

    Close it, as with `contextlib.closing`, before `batches` is closed: its thread reads from there.

    Args:
      batches: (step, this process's rows), as the loader gives them.
      mesh: over which rows are divided.
      bad_files: told of every batch, and may end the run: its error is raised with the batch.
      draw: from a step and its records, the numbers by which the step changes the faces; None: it does not.
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
        there = DeviceBatch(*map(divided, (batch.images, batch.labels, batch.valid, numbers)))
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
