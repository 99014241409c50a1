"""What every source of faces offers: an index, and pixels for a record."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex


class FaceSource(Protocol):
    """Faces by record number.

    A source is pickled once for every worker process, so it holds arrays and bytes rather than an object a record.
    """

    @property
    def index(self) -> IdentityIndex:
        """Which records belong to which identity."""
        ...

    @property
    def digest(self) -> str:
        """A fingerprint of which faces these are, in hexadecimal: a resumed run compares it."""
        ...

    def load(self, record: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """One face's pixels.

        Args:
          record: in [0, index.records).
          size: (rows, columns) in pixels.

        Returns:
          uint8 [rows, columns, 3].

        Raises:
          decode.BadFace: this face cannot be decoded.
        """
        ...

    def describe(self, record: int) -> str:
        """Where the face comes from, for people: a path."""
        ...
