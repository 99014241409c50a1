"""Walks a folder of photographs: which entries are images, which are skipped, in which order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from facenet_jax.datasets.names import comparable
from facenet_jax.errors import InputError

IMAGE_SUFFIXES = tuple(
    f".{suffix}".encode()
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "ppm", "pgm", "pbm", "pnm"),
        *("bmp", "gif", "tif", "tiff", "avif", "heic", "heif", "hif"),
    )
)
# What systems, network disks and programs leave among a user's files, in small letters; what begins with a dot besides.
_LEFT_BEHIND = frozenset(
    {
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler"),  # Windows
        *("system volume information", "found.000", "found.001", "lost+found", "lost.dir", "recycled"),
        *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
        *("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@sharebin"),  # network disks
        *("@transcode", "@__thumb", "#sharebin", "~snapshot", "_gsdata_"),
        *("picasa.ini", "zbthumbnail.info", "__pycache__"),  # programs
    }
)
LEFT_BEHIND, TOO_HIGH, TOO_DEEP = "left behind by systems", "images outside of a person's folder", "folders in folders"


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return os.path.splitext(os.fsencode(name))[1].lower() in IMAGE_SUFFIXES


def is_left_behind(name: str) -> bool:
    """Whether a system or a program left an entry among the user's images, such as hidden files and folders."""
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def list_entries(folder: str | os.PathLike[str], passed_over: Counter[str] | None = None) -> list[os.DirEntry[str]]:
    """The entries of a folder without those left behind, in the order of their names' bytes.

    Args:
      folder: to list.
      passed_over: where those left behind are counted.

    Raises:
      OSError: it cannot be read.
    """
    visible = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_left_behind(entry.name):
                visible.append(entry)
            elif passed_over is not None:
                passed_over[LEFT_BEHIND] += 1
    return sorted(visible, key=lambda entry: os.fsencode(entry.name))


def kind_of(entry: os.DirEntry[str]) -> str:
    """What an entry that is not an image counts as: its suffix, or what it is."""
    if is_folder(entry):
        return TOO_DEEP
    if is_image_name(entry.name):
        return "links that lead nowhere" if entry.is_symlink() else "no files"
    return os.path.splitext(entry.name)[1].lower()[:12] or "without a suffix"


def ignored(passed_over: Counter[str]) -> int:
    """How many of what was passed over are a user's own."""
    return passed_over.total() - passed_over[LEFT_BEHIND]


def in_words(passed_over: Mapping[str, int], most: int = 8) -> str:
    """What was passed over by reason and suffix, the most first, for people."""
    ranked = Counter(passed_over).most_common()
    words = [f"{count:,} {reason}" for reason, count in ranked[:most]]
    return ", ".join(words) + (f", {sum(count for _, count in ranked[most:]):,} others" if ranked[most:] else "")


def some(names: Sequence[str], most: int = 10) -> str:
    """How many people, and the names of the first, for people."""
    more = f", and {len(names) - most:,} more" if len(names) > most else ""
    people = "person" if len(names) == 1 else "people"
    return f"{len(names):,} {people}: {', '.join(names[:most])}{more}"


def stored_path(root: Path, place: str) -> str:
    """The path below a folder that a place names, in whichever Unicode form its parts have on the disk.

    Loaders ask for every face: making a Path would take them as long as the system takes to read a small file.
    """
    path = os.path.join(root, place)
    if place.isascii() or os.path.exists(path):
        return path
    found = root
    for part in Path(place).parts:
        name = part
        if not (found / part).exists():
            try:
                name = next((one for one in os.listdir(found) if comparable(one) == comparable(part)), part)
            except OSError:
                return path
        found = found / name
    return str(found)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one."""
    return _is(entry.is_dir)


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to one, that is named as an image."""
    return is_image_name(entry.name) and _is(entry.is_file)


def images_below(root: Path) -> tuple[list[Path], Counter[str]]:
    """The images in a folder and in all folders below, and what was passed over, by suffix or reason.

    A folder's own images come first, then its folders. Links are followed, each folder is entered once.

    Raises:
      InputError: one of the folders cannot be read.
    """
    images: list[Path] = []
    passed_over = Counter[str]()
    seen: set[tuple[int, int]] = set()
    to_enter = [root]
    while to_enter:
        folder = to_enter.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = list_entries(folder, passed_over)
        except OSError as error:
            raise InputError(f"The folder {folder} cannot be read ({error.strerror}); check it.") from error
        below = []
        for entry in entries:
            if is_folder(entry):
                below.append(folder / entry.name)
            elif is_image(entry):
                images.append(folder / entry.name)
            else:
                passed_over[kind_of(entry)] += 1
        to_enter.extend(reversed(below))
    return images, passed_over


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # links that lead in a circle
        return False
