"""Leaving out what a list names: identities by their names, faces by their places, one a line."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.source import FaceSource
from facenet_jax.errors import InputError


def read_list(path: str | os.PathLike[str], option: str) -> set[str]:
    """The lines of a list of what to leave out.

    Args:
      path: a text file; bytes that are no UTF-8 are kept as Python's surrogate escapes, as in `names.Names`, and the
        mark that some editors put before the first line is not taken for a part of it.
      option: that named it, for the error.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return set(Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")) - {""}
    except OSError as error:
        raise InputError(f"{option}={path} cannot be read ({error.strerror}): check the path.") from error


class WithoutFaces:
    """The faces of a source but some. Identities keep their numbers; one may have no face any more.

    Attributes:
      source: that it is made from.
      gone: int64 [faces], ascending, the records of the source that are left out.
      index: of the others, which are numbered anew.
    """

    def __init__(self, source: FaceSource, gone: NDArray[np.int64]) -> None:
        self.source, self.gone = source, gone
        # How many of those that stay stand before each that is gone. Few are gone of however many there are.
        self._before = gone - np.arange(len(gone))
        whole = source.index
        self.index = IdentityIndex(whole.names, whole.offsets - np.searchsorted(gone, whole.offsets))

    @property
    def digest(self) -> str:
        """Of the source's digest, and of who is gone."""
        return hashlib.blake2b(self.source.digest.encode() + self.gone.tobytes(), digest_size=16).hexdigest()

    def original(self, records: NDArray[np.int64]) -> NDArray[np.int64]:
        """The source's own numbers of records, int64 of the same shape."""
        return records + np.searchsorted(self._before, records, side="right")

    def load(self, record: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """One face's pixels, uint8 [rows, columns, 3]: see FaceSource."""
        return self.source.load(int(self.original(np.array(record))), size)

    def describe(self, record: int) -> str:
        """Where the face comes from."""
        return self.source.describe(int(self.original(np.array(record))))

    def __reduce__(self) -> tuple[Any, ...]:
        return WithoutFaces, (self.source, self.gone)
