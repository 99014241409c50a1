"""Vectors to search among, exactly: float32, or one byte a coordinate, through faiss."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError
from facenet_jax.evaluation.compact import pack
from facenet_jax.prepare.cores import usable_cores

# With fewer vectors than this a second thread costs more than it saves.
_SPLIT = 50_000


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
        if self.step is None:
            distances, places = self._nearest_floats(np.ascontiguousarray(points), k)
            return np.maximum(distances, 0), places
        codes = pack(points, self.step).codes.astype(np.float32)
        distances, places = self._index.search(codes, k)
        return (distances * np.float64(self.step) ** 2).astype(np.float32), places

    def _nearest_floats(self, points: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        # faiss divides queries over threads, not vectors: a single query is divided here.
        threads = min(usable_cores(), len(self) // _SPLIT)
        if len(points) > 1 or threads < 2:
            distances, places = self._index.search(points, k)
            return distances, places
        faiss = _faiss()
        edges = np.linspace(0, len(self), threads + 1).astype(np.int64).tolist()

        def search(start: int, stop: int) -> Any:
            among = faiss.SearchParameters(sel=faiss.IDSelectorRange(start, stop))
            return self._index.search(points, min(k, stop - start), params=among)

        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(search, edges[:-1], edges[1:]))
        distances, places = (np.concatenate([part[side] for part in found], axis=1) for side in (0, 1))
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(distances, order, 1), np.take_along_axis(places, order, 1)

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
