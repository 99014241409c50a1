"""The files of a run, on a disk or in a bucket (gs://)."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import sys
import threading
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from facenet_jax.errors import InputError, first_line, how_to_install

BUCKETS = "gs://"
# The file by which a process holds a folder.
LOCK = ".lock"
_REACH_SECONDS = 30


def locate(path: str) -> Path:
    """A path on disk, or what stands for one in a bucket and has those of pathlib's methods that are used of it.

    Raises:
      InputError: what reads buckets is not installed, or the bucket is out of reach.
    """
    if not path.startswith(BUCKETS):
        return Path(path)
    import fsspec
    from etils import epath

    try:
        fsspec.get_filesystem_class("gcs")
    except ImportError as error:
        raise InputError(f"{path} is in a bucket, which needs gcsfs: {how_to_install('gcs')}.") from error
    _check_reach(path)
    return cast(Path, epath.Path(path))


def _check_reach(path: str) -> None:
    """Asks for a path in a bucket once: what reads it would go on asking for minutes, or end in a traceback."""
    import fsspec

    failures: list[Exception] = []

    def ask() -> None:
        try:
            fsspec.filesystem("gcs").info(path)
        except FileNotFoundError:  # to be made
            pass
        except Exception as error:  # no rights, no network, no credentials: each library has its own kinds
            failures.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_REACH_SECONDS)
    if asking.is_alive() or failures:
        why = first_line(failures[0]) if failures else f"no answer within {_REACH_SECONDS} seconds"
        raise InputError(
            f"{path} cannot be reached ({why}): see that the bucket's name is right, and that this machine has a "
            "network and is logged in (gcloud auth application-default login, or a service account) with rights on "
            "the bucket."
        )


def in_bucket(path: Path) -> bool:
    """Whether `locate` found it in a bucket."""
    return not isinstance(path, Path)


def modified(path: Path) -> int:
    """When a file was written last, in nanoseconds."""
    stat: Any = path.stat()
    return int(stat.mtime * 1e9) if in_bucket(path) else int(stat.st_mtime_ns)


def check_encoding(data: bytes, where: str) -> None:
    """That the beginning of a text is not in an encoding in which nothing of it would be understood.

    Raises:
      InputError: it is UTF-16 or UTF-32.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")) or 4 * data.count(0) > len(data):
        raise InputError(f"{where} is not a text file in UTF-8 but in UTF-16 or UTF-32: save it as UTF-8.")


def read_text(path: str | os.PathLike[str], where: str, *, keep_bytes: bool = False) -> str:
    """The text of a file that a person wrote, in UTF-8; the mark that some editors put first is not a part of it.

    Args:
      path: of the file.
      where: the option and the path, for errors.
      keep_bytes: whether bytes that are not UTF-8, as names of files may have, are kept as Python's surrogate escapes.

    Raises:
      InputError: it cannot be read, or is in another encoding.
    """
    try:
        data = Path(path).read_bytes()
        check_encoding(data, where)
        text = data.decode("utf-8-sig", "surrogateescape" if keep_bytes else "strict")
    except OSError as error:
        raise InputError(f"{where} cannot be read ({error.strerror}): check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not a text file in UTF-8 (byte {error.start:,}): save it as UTF-8.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def write_whole(path: Path, data: bytes | str) -> None:
    """Writes a file so that it is there whole or not at all: text as UTF-8, names of files in it by their own bytes."""
    data = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    if in_bucket(path):  # an object appears when it is complete
        path.write_bytes(data)
        return
    # Processes on two machines that share the folder may have the same number.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is not None:
            error.filename = str(path)  # a person knows nothing of the other
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Returns once a file is on the disk, whatever becomes of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Writes a file of arrays (.npz), whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_whole(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file, every byte of each compared with the archive's checksum.

    NumPy reads what an array's header says, and where that is damaged stops before the checksum.

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged, or holds objects.
    """
    arrays = {}
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            for name in archive.namelist():
                data = io.BytesIO(archive.read(name))
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(data, allow_pickle=False)
                if data.read(1):
                    raise ValueError(f"the array {name} is longer than it says")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged archive raises what its reader happens to trip over
        raise ValueError(first_line(error)) from error
    return arrays


def map_array(path: Path) -> NDArray[Any]:
    """A .npy file, memory-mapped.

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged.
    """
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # NumPy raises EOFError, TokenError, OverflowError and others of a damaged header
        raise ValueError(f"{path.name} is not an array ({first_line(error)})") from error
    if not isinstance(mapped, np.ndarray):
        raise ValueError(f"{path.name} is not an array")
    return mapped


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


def locked(path: Path) -> IO[str]:
    """Holds a file, made where it is not there, for this process until it is closed; on a disk only.

    Where the file system has no locks, as some on a network, that is reported, and nothing is held.

    Raises:
      BlockingIOError: another process holds it.
      OSError: it cannot be made.
    """
    while True:
        file = path.open("w")
        try:
            held = lock(file)
        except BlockingIOError:
            file.close()
            raise
        if not held:
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # `held_folder` of another process has just removed it


def lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Holds an open file until it is closed: for this process alone, or with others (`fcntl.LOCK_SH`).

    Returns:
      Whether it is held: a file system without locks, as some on a network, is said.

    Raises:
      BlockingIOError: another process holds it.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        print(
            f"facenet-jax: warning: {file.name} cannot be locked ({error.strerror}), as where a file system has no "
            f"locks; make sure that no other process writes in {Path(file.name).parent} meanwhile.",
            file=sys.stderr,
        )
        return False
    return True


def check_outside(out: Path, source: Path) -> None:
    """Raises InputError if what is written would lie in what is read."""
    if source.resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f"{out} lies in {source}, which is read only; give a folder elsewhere.")


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Makes a folder on a disk; of those that it made the empty ones are removed in the end: a refusal leaves nothing.

    Raises:
      OSError: it cannot be made.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with contextlib.suppress(OSError):  # the first that is not empty
            for one in made:
                if one.exists():
                    one.rmdir()


@contextlib.contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """A folder as for `new_folder`, held by a file in it, which is removed in the end, as for `locked`."""
    with new_folder(folder), locked(folder / LOCK):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()


def append(path: Path, data: bytes) -> None:
    """Adds to the end of a file, which need not exist; in a bucket, where nothing grows, by writing all of it again."""
    if in_bucket(path):
        path.write_bytes((path.read_bytes() if path.exists() else b"") + data)
        return
    with path.open("ab") as file:
        file.write(data)


def files_digest(root: Path, files: Sequence[Path]) -> str:
    """A digest of which files these are, by name, size and time; of one that cannot be read by name alone."""
    digest = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=16)
    for file in files:
        digest.update(os.fsencode(file) + f"\0{_stat(file)}\0".encode())
    return digest.hexdigest()


def _stat(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:  # counted as unreadable when it is embedded
        return -1, -1
    return found.st_size, found.st_mtime_ns
