"""Which photographs: a folder walked to its end, or files one by one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facenet_jax.datasets.source import FileReader
from facenet_jax.datasets.walk import images_below
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
        images, passed_over = images_below(path)
        files += images
        ignored += passed_over
    if not files:
        named = ", ".join(str(path) for path in paths)
        raise InputError(f"{named} holds no photographs; give a folder with JPEG, PNG, PPM/PGM or WebP files.")
    files = list(dict.fromkeys(files))
    root = paths[0] if len(paths) == 1 and paths[0].is_dir() else Path()
    keys = tuple(os.path.relpath(file, root) if root != Path() else str(file) for file in files)
    reader = FileReader(root)
    return Photos(Images(keys, lambda number: reader.read(keys[number]), files_digest(root, files)), root, ignored)
