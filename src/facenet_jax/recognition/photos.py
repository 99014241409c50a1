"""Which photographs: a folder walked to its end, or files one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from facenet_jax.datasets.folder import SUFFIXES
from facenet_jax.datasets.sources import FileReader
from facenet_jax.embedders.engine import Images
from facenet_jax.errors import InputError
from facenet_jax.runtime.files import files_digest


@dataclass(frozen=True)
class Photos:
    """Photographs on disk.

    Attributes:
      images: all of them; a key is the file's path below `root`.
      root: of a single folder; the working directory where files or several folders were given.
      ignored: how many files of the folders were passed over because they are no images.
    """

    images: Images
    root: Path
    ignored: int = 0


def open_photos(paths: Sequence[Path]) -> Photos:
    """Lists photographs: of folders all that lie in them, however deep, in the order of their names' bytes.

    Links are followed, hidden files and folders passed over. A file that is named itself may have any suffix.

    Args:
      paths: folders and files; of a single folder the keys are paths within it.

    Raises:
      InputError: one does not exist or cannot be read, or there is no photograph.
    """
    files: list[Path] = []
    ignored = 0
    for path in paths:
        try:
            is_folder = path.is_dir()
            exists = path.exists()
        except OSError as error:  # a name too long, a folder above it that may not be entered
            raise InputError(f"{path} cannot be read ({error.strerror}); check it.") from error
        if not exists:
            raise InputError(f"{path} does not exist; give a photograph or a folder of photographs.")
        if not is_folder:
            files.append(path)
            continue
        for file in _walk(path):
            if os.path.splitext(os.fsencode(file.name))[1].lower() in SUFFIXES and file.is_file():
                files.append(file)
            else:
                ignored += 1
    if not files:
        named = ", ".join(str(path) for path in paths)
        raise InputError(f"{named} holds no photographs; give a folder with JPEG, PNG, PPM/PGM or WebP files.")
    files = list(dict.fromkeys(files))
    root = paths[0] if len(paths) == 1 and paths[0].is_dir() else Path()
    keys = tuple(os.path.relpath(file, root) if root != Path() else str(file) for file in files)
    reader = FileReader(root)
    return Photos(Images(keys, lambda number: reader.read(keys[number]), files_digest(root, files)), root, ignored)


def _walk(root: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for folder, below, files in os.walk(root, onerror=_refuse, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = sorted((name for name in below if not name.startswith(".")), key=os.fsencode)
        for name in sorted(files, key=os.fsencode):
            if not name.startswith("."):
                yield Path(folder, name)


def _refuse(error: OSError) -> NoReturn:
    raise InputError(f"The folder {error.filename} cannot be read ({error.strerror}); check it.") from error
