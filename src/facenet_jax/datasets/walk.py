"""Walks a user's folders: which entries are images, which are passed over, in which order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from facenet_jax.errors import InputError

IMAGE_SUFFIXES = (b".jpg", b".jpeg", b".png", b".ppm", b".pgm", b".webp")


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return os.path.splitext(os.fsencode(name))[1].lower() in IMAGE_SUFFIXES


def is_left_behind(name: str) -> bool:
    """Whether a system or a program left an entry among the user's images: hidden files and folders."""
    return name.startswith(".")


def list_entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """The entries of a folder without those left behind, in the order of their names' bytes.

    Raises:
      OSError: it cannot be read.
    """
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not is_left_behind(entry.name)]
    return sorted(visible, key=lambda entry: os.fsencode(entry.name))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one."""
    return _is(entry.is_dir)


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to one, that is named as an image."""
    return is_image_name(entry.name) and _is(entry.is_file)


def images_below(root: Path) -> tuple[list[Path], int]:
    """The images in a folder and in all folders below, and how many other files were passed over.

    A folder's own images come first, then its folders. Links are followed, each folder is entered once.

    Raises:
      InputError: one of the folders cannot be read.
    """
    images: list[Path] = []
    ignored = 0
    seen: set[tuple[int, int]] = set()
    to_enter = [root]
    while to_enter:
        folder = to_enter.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = list_entries(folder)
        except OSError as error:
            raise InputError(f"The folder {folder} cannot be read ({error.strerror}); check it.") from error
        below = []
        for entry in entries:
            if is_folder(entry):
                below.append(folder / entry.name)
            elif is_image(entry):
                images.append(folder / entry.name)
            else:
                ignored += 1
        to_enter.extend(reversed(below))
    return images, ignored


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # links that lead in a circle
        return False
