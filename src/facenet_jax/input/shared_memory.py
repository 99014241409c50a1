"""Memory that this process shares with its workers."""

from __future__ import annotations

import errno
import mmap
import os
import sys
import tempfile
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Where Python and Grain keep the locks that processes share.
PLACE = "/dev/shm"


def with_place(error: OSError, option: str) -> OSError:
    """The error where there is no room for what processes share, with the place and what to lower; others as they are.

    Args:
      error: of starting processes.
      option: how many processes there are.
    """
    if error.errno not in (errno.ENOSPC, errno.ENOMEM) or error.filename:
        return error
    need = f"what processes share finds no room there: enlarge it (--shm-size of a container), or lower {option}"
    return OSError(error.errno, f"{error.strerror} ({need})", PLACE)


class SharedMemory:
    """Bytes, zero at first, that are pickled by their place: a worker maps the same ones. Pages are taken when used.

    Args:
      size: in bytes.
    """

    def __init__(self, size: int) -> None:
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
            self._bytes = mmap.mmap(file.fileno(), 0)

    def array(self, kind: DTypeLike, shape: tuple[int, ...], offset: int = 0) -> NDArray[Any]:
        """An array over these bytes from `offset` on."""
        return np.ndarray(shape, kind, self._bytes, offset)

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()
