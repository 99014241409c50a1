"""A ring of batches in shared memory, in which workers write pixels where they are read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.input.shared_memory import SharedMemory


class Ring:
    """Memory of a few batches that this process shares with its workers: pixels are written and read there.

    Batch n is in place n mod `batches`, which is written again long after it has been read; should that ever fail,
    `check` says so.

    Attributes:
      slab_rows: rows that are written at a time.
      slabs: how many of these make up a batch; slab n is of batch n // slabs.

    Args:
      batches: how many.
      shape: of a batch's pixels, (rows, height, width, channels).
      slab_rows: see above.
    """

    def __init__(self, batches: int, shape: tuple[int, ...], slab_rows: int) -> None:
        self._batches, self.slab_rows = batches, slab_rows
        self.slabs = -(-shape[0] // slab_rows)
        self._shape = shape
        self._memory = SharedMemory(batches * (8 * self.slabs + math.prod(shape)))
        self._map()
        self._holds[...] = -1

    def _map(self) -> None:
        self._holds = self._memory.array(np.int64, (self._batches, self.slabs))
        self._pixels = self._memory.array(np.uint8, (self._batches, *self._shape), offset=self._holds.nbytes)

    def begin(self, slab: int) -> NDArray[np.uint8]:
        """Where a worker writes a slab's pixels."""
        batch, part = self._place(slab)
        self._holds[batch, part] = -1
        return self._pixels[batch, part * self.slab_rows : (part + 1) * self.slab_rows]

    def end(self, slab: int) -> None:
        """Says that they are written."""
        self._holds[self._place(slab)] = slab

    def batch(self, number: int) -> NDArray[np.uint8]:
        """A batch's pixels, where they are; what is read there holds if `check` passes afterwards."""
        return self._pixels[number % self._batches]

    def check(self, number: int) -> None:
        """Raises RuntimeError where a slab of a batch is no longer, or not yet, in its place."""
        slabs = np.arange(number * self.slabs, (number + 1) * self.slabs)
        wrong = slabs[self._holds[number % self._batches] != slabs]
        if len(wrong):
            raise RuntimeError(
                f"Slab {wrong[0]} was overwritten before it was read: a mistake in facenet_jax.input.ring."
            )

    def _place(self, slab: int) -> tuple[int, int]:
        return slab // self.slabs % self._batches, slab % self.slabs

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_holds", "_pixels")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()
