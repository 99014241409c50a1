"""Claims a folder for results, without touching files that it did not write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from facenet_jax.errors import InputError
from facenet_jax.runtime.files import LOCK, held_folder, write_whole

# The folder in which embeddings are kept as they are made, so that an interrupted command resumes.
KEPT = "embeddings"
# Results whose names are not known in advance are written into the first; the second lists those moved out of it.
_NEW, _MOVED = ".new", ".moved"


@contextmanager
def claimed(out: Path, own: Collection[str], keeps: bool = True) -> Iterator[None]:
    """Makes a folder for results and locks it; an existing one may hold only the results of an earlier call.

    Args:
      out: the folder.
      own: names of the files and folders that the caller writes there.
      keeps: whether embeddings are kept in it.

    Raises:
      InputError: it cannot be written, holds something else, or another process works in it.
    """
    own = {*own, KEPT if keeps else LOCK}
    with ExitStack() as stack:
        try:
            if out.is_dir():
                _refuse_strange(out, own)
            stack.enter_context(held_folder(out / KEPT if keeps else out))
        except BlockingIOError as error:
            raise InputError(f"another process is at work in {out}; wait for it, or give another folder.") from error
        except OSError as error:
            raise InputError(f"{out} cannot be written ({error.strerror}); give another folder.") from error
        _refuse_strange(out, own)  # another process may have written and ended in between
        for name in _left(out):
            (out / name).unlink(missing_ok=True)
        yield


@contextmanager
def claimed_for_all(out: Path) -> Iterator[Path]:
    """Claims a folder for results whose names are not known in advance; gives a folder within it to write them into.

    When all are written, they are moved out of it, and the kept embeddings are removed. A process that was killed while
    moving them leaves a list of their names; the next call replaces these.

    Raises:
      InputError: as for `claimed`.
    """
    new, moved = out / _NEW, out / _MOVED
    lines = moved.read_text().splitlines() if moved.is_file() else []
    before = [line for line in lines if Path(line).name == line]  # since these are removed, none may lie elsewhere
    with claimed(out, (_NEW, _MOVED, *before)):
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            yield new
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        for name in before:
            if (out / name).is_dir():
                shutil.rmtree(out / name)
        names = sorted(entry.name for entry in new.iterdir())
        write_whole(moved, "".join(f"{name}\n" for name in {*names, *before}))
        for name in names:
            (new / name).replace(out / name)
        new.rmdir()
        shutil.rmtree(out / KEPT)
        moved.unlink()


def _refuse_strange(out: Path, own: Collection[str]) -> None:
    strange = sorted(set(os.listdir(out)) - {*own, *_left(out)})
    if strange:
        raise InputError(f"{out} is not empty (it has {strange[0]}); nothing is overwritten: give a new folder.")


def _left(out: Path) -> list[str]:
    """Unfinished files of a killed process (`write_whole`)."""
    return [file.name for file in out.glob(".*.tmp")]
