"""Pixels on their way from the workers, without a copy."""

from __future__ import annotations

import math
import mmap
import os
import sys
import tempfile
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Slots:
    """Memory that this process shares with its workers: a slab's pixels are written and read there, and nowhere else.

    Slab n is in slot n mod `slots`, which is used again long after the slab has been read here; should that ever fail,
    `read` says so.

    Args:
      slots: how many.
      shape: of a slab's pixels, (rows, height, width, channels).
    """

    def __init__(self, slots: int, shape: tuple[int, ...]) -> None:
        self._slots, self._shape = slots, shape
        size = slots * (8 + math.prod(shape))
        if sys.platform == "linux":  # not in /dev/shm, of which a container has 64 MB unless told otherwise
            file = os.memfd_create("facenet-jax")
            self._path = f"/proc/{os.getpid()}/fd/{file}"
            weakref.finalize(self, os.close, file)
        else:
            file, self._path = tempfile.mkstemp()
            os.close(file)
            weakref.finalize(self, os.unlink, self._path)
        os.truncate(self._path, size)
        self._map()

    def _map(self) -> None:
        with open(self._path, "r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        self._holds = np.frombuffer(memory, np.int64, self._slots)
        self._pixels = np.frombuffer(memory, np.uint8, offset=8 * self._slots).reshape(self._slots, *self._shape)

    def begin(self, slab: int) -> NDArray[np.uint8]:
        """Where a worker writes a slab's pixels."""
        self._holds[slab % self._slots] = -1
        return self._pixels[slab % self._slots]

    def end(self, slab: int) -> None:
        """Says that they are written."""
        self._holds[slab % self._slots] = slab

    def read(self, slab: int, out: NDArray[np.uint8]) -> None:
        """Copies a slab's pixels, as many rows as `out` has."""
        out[...] = self._pixels[slab % self._slots, : len(out)]
        if self._holds[slab % self._slots] != slab:
            raise RuntimeError(f"Slab {slab} was overwritten before it was read: a mistake in facenet_jax.input.slots.")

    def __getstate__(self) -> dict[str, Any]:
        return {"_slots": self._slots, "_shape": self._shape, "_path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()
