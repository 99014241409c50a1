"""Batches on the devices, one ahead of the step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np
from jax.sharding import Mesh

from facenet_jax.input.bad_files import BadFiles
from facenet_jax.input.loader import Batch
from facenet_jax.runtime.mesh import over_batch
from facenet_jax.training.step import DeviceBatch


class Ahead:
    """Fetches the next batch onto the devices while the current step runs."""

    def __init__(self, batches: Iterator[tuple[int, Batch]], mesh: Mesh, bad_files: BadFiles) -> None:
        self._batches = batches
        self._mesh = mesh
        self._bad_files = bad_files
        self._thread = ThreadPoolExecutor(1)
        self._next: Future[DeviceBatch | None] | None = None

    def __enter__(self) -> Ahead:
        self.fetch()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True)

    def fetch(self) -> None:
        """Begins with the next batch."""
        self._next = self._thread.submit(self._load)

    def take(self) -> tuple[DeviceBatch, float]:
        """The batch last asked for, and the seconds that this call waited for it."""
        assert self._next is not None
        started = time.perf_counter()
        batch = self._next.result()
        assert batch is not None
        return batch, time.perf_counter() - started

    def _load(self) -> DeviceBatch | None:
        try:
            _, batch = next(self._batches)
        except StopIteration:
            return None
        self._bad_files.update(batch)
        rows = over_batch(self._mesh)
        return DeviceBatch(
            *(
                jax.make_array_from_process_local_data(rows, np.asarray(part))
                for part in (batch.images, batch.labels, batch.valid)
            )
        )
