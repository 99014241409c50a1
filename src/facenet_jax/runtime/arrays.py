"""Arrays written to disk piece by piece."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import DTypeLike, NDArray


class ArrayWriter:
    """Writes a .npy file of known shape in pieces, within `with`.

    Not through a memory map: on a full disk that kills the process, where writing raises OSError.

    Args:
      file: the path.
      kind: of the array's items.
      shape: of the whole array.
    """

    def __init__(self, file: Path, kind: DTypeLike, shape: tuple[int, ...]) -> None:
        self._kind, self._left = np.dtype(kind), shape[0]
        self._file = file.open("wb")
        header = {"descr": self._kind.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, rows: NDArray[np.generic]) -> None:
        """Writes the next rows."""
        self._left -= len(rows)
        self._file.write(np.ascontiguousarray(rows, self._kind).tobytes())

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if error is None and self._left:
            raise ValueError(f"{self._file.name} lacks {self._left} rows")
