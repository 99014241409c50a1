"""Vectors to search among, exactly: float32, or one byte a coordinate, through faiss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError
from facenet_jax.evaluation.compact import pack
from facenet_jax.runtime.cores import usable_cores


class Vectors:
    """Points in the order in which they were added.

    Attributes:
      size: coordinates of a point.
      step: of the bytes, see `evaluation.compact`; None: float32.
      clipped, rounding: of all points that were added as bytes.
    """

    def __init__(self, size: int, step: float | None = None, _index: Any = None) -> None:
        """Begins empty.

        Args:
          size: coordinates of a point.
          step: store bytes with this step.

        Raises:
          InputError: faiss is not installed.
        """
        faiss = _faiss()
        self.size, self.step, self.clipped, self.rounding = size, step, 0, 0.0
        if _index is not None:
            self._index = _index
        elif step is None:
            self._index = faiss.IndexFlatL2(size)
        else:
            # Codes as they are, from -128 to 127: distances are those of integers.
            self._index = faiss.IndexScalarQuantizer(size, faiss.ScalarQuantizer.QT_8bit_direct_signed)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, points: NDArray[np.float32]) -> None:
        """Adds points, float32 [n, size]."""
        if self.step is None:
            self._index.add(np.ascontiguousarray(points))
            return
        packed = pack(points, self.step)
        self.clipped += packed.clipped
        self.rounding = max(self.rounding, packed.rounding)
        self._index.add(packed.codes.astype(np.float32))

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Removes points by their places; those behind move up."""
        self._index.remove_ids(_faiss().IDSelectorBatch(rows))

    def nearest(self, points: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest of each point, exactly; the points are rounded too where bytes are stored.

        Args:
          points: float32 [q, size].
          k: at most as many as there are.

        Returns:
          (squared distances float32 [q, k], ascending; places int64 [q, k]).
        """
        faiss = _faiss()
        # For a single query the threads of OpenMP wait for one another longer than they work.
        faiss.omp_set_num_threads(1 if len(points) == 1 else usable_cores())
        if self.step is None:
            distances, places = self._index.search(np.ascontiguousarray(points), k)
            return np.maximum(distances, 0), places
        codes = pack(points, self.step).codes.astype(np.float32)
        distances, places = self._index.search(codes, k)
        return (distances * np.float64(self.step) ** 2).astype(np.float32), places

    def write(self, file: Path) -> None:
        """Writes faiss's own format."""
        _faiss().write_index(self._index, str(file))


def read_vectors(file: Path, size: int, step: float | None, clipped: int, rounding: float) -> Vectors:
    """Reads what `write` wrote; the other arguments are known from elsewhere.

    Raises:
      InputError: faiss is not installed.
      ValueError: the file holds something else.
    """
    faiss = _faiss()
    try:
        index = faiss.read_index(str(file))
    except RuntimeError as error:
        raise ValueError(f"{file.name} is no index of faiss") from error
    kind = faiss.IndexFlatL2 if step is None else faiss.IndexScalarQuantizer
    if not isinstance(index, kind) or index.d != size or index.metric_type != faiss.METRIC_L2:
        raise ValueError(f"{file.name} is another kind of index")
    if step is not None and index.sq.qtype != faiss.ScalarQuantizer.QT_8bit_direct_signed:
        raise ValueError(f"{file.name} is another kind of index")
    vectors = Vectors(size, step, index)
    vectors.clipped, vectors.rounding = clipped, rounding
    return vectors


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError("Searching an index needs faiss: pip install 'facenet-jax[index]'.") from error
    return faiss
