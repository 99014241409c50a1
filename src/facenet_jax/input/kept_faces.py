"""Decoded faces, kept in memory that all workers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.source import FaceSource
from facenet_jax.images.decode import BadFace, Reason
from facenet_jax.input.shared_memory import SharedMemory

# A face's state: not loaded yet, loaded, or the Reason why it cannot be.
_NOT_YET, _LOADED = 0, 255


class KeptFaces:
    """A source whose faces are decoded once, when first asked for, by whichever process asks.

    A bad face is remembered as well. Memory is taken as faces come, `bytes_of` at most.

    Args:
      source: where the faces come from.
      size: (rows, columns) in pixels of the faces that are kept; in another size they come from the source.
    """

    def __init__(self, source: FaceSource, size: tuple[int, int], memory: SharedMemory | None = None) -> None:
        self._source, self._size = source, tuple(size)
        records = source.index.records
        self._memory = memory or SharedMemory(self.bytes_of(source, size))
        self._states = self._memory.array(np.uint8, (records,))
        self._pixels = self._memory.array(np.uint8, (records, *size, 3), offset=records)
        self._given = self._pixels.view()
        self._given.flags.writeable = False

    @staticmethod
    def bytes_of(source: FaceSource, size: tuple[int, int]) -> int:
        """Bytes of memory once every face of a source is kept."""
        return int(source.index.records * (1 + 3 * math.prod(size)))

    @property
    def index(self) -> IdentityIndex:
        """The source's."""
        return self._source.index

    @property
    def digest(self) -> str:
        """The source's."""
        return self._source.digest

    @property
    def ignored(self) -> int:
        """The source's."""
        return self._source.ignored

    def load(self, record: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """One face's pixels, uint8 [rows, columns, 3], not to be written to: see FaceSource."""
        if tuple(size) != self._size:
            return self._source.load(record, size)
        state = int(self._states[record])
        if state == _LOADED:
            return self._given[record]
        if state != _NOT_YET:
            raise BadFace(Reason(state))
        # Two that load a face at one time write the same. NumPy lets go of the interpreter's lock while it copies, so
        # the pixels are in memory before the state is.
        try:
            self._pixels[record] = self._source.load(record, size)
        except BadFace as bad:
            self._states[record] = bad.reason
            raise
        self._states[record] = _LOADED
        return self._given[record]

    def describe(self, record: int) -> str:
        """Where the face comes from."""
        return self._source.describe(record)

    def places(self) -> Iterable[str]:
        """The source's."""
        return self._source.places()

    def __reduce__(self) -> tuple[Callable[..., KeptFaces], tuple[Any, ...]]:
        return KeptFaces, (self._source, self._size, self._memory)
