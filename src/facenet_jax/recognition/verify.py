"""Measures the distance between the faces of two photographs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facenet_jax.embedders.engine import EmbeddedFaces
from facenet_jax.errors import InputError
from facenet_jax.recognition.finder import FaceFinder, open_photos


class Compared(NamedTuple):
    """Two faces.

    Attributes:
      first, second: their names, see `EmbeddedFaces.names`.
      distance: squared L2.
    """

    first: str
    second: str
    distance: float


def compare(finder: FaceFinder, first: str, second: str, largest: bool = False) -> Compared:
    """The distance of two faces.

    Args:
      finder: finds and embeds them.
      first, second: photographs; `photo.jpg#2` is the second face from the left.
      largest: of several faces take the largest near the centre.

    Raises:
      InputError: a photograph cannot be read, shows no face, or several and none was chosen.
    """
    asked = [_parse(name) for name in (first, second)]
    for path, _ in asked:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give two photographs.")
    faces = finder.find(open_photos([path for path, _ in asked]).images)
    one, other = (_choose(faces, str(path), number, largest) for path, number in asked)
    difference = faces.points[one].astype(np.float64) - faces.points[other]
    return Compared(faces.names[one], faces.names[other], float(difference @ difference))


def _parse(name: str) -> tuple[Path, int | None]:
    """`photo.jpg#2` -> (photo.jpg, 2), unless a file has this name."""
    match = re.fullmatch(r"(.+)#(\d+)", name)
    if match is None or Path(name).exists():
        return Path(name), None
    return Path(match[1]), int(match[2])


def _choose(faces: EmbeddedFaces, file: str, number: int | None, largest: bool) -> int:
    photo = faces.files.index(file)
    found = faces.of(photo)
    if not found:
        raise InputError(
            f"{file} cannot be used ({dict(faces.rejected)[file]}); give a photograph that shows the face."
        )
    if number is not None:
        if not 1 <= number <= len(found):
            raise InputError(f"{file}#{number}: the photograph shows {len(found)} faces, counted from 1 on the left.")
        return found[number - 1]
    if len(found) == 1:
        return found[0]
    central = [row for row in found if faces.central[row]]
    if largest and central:
        return central[0]
    where = ", ".join(
        "#{} ({:.0f}x{:.0f} pixels at {:.0f},{:.0f})".format(n, *faces.boxes[row, [2, 3, 0, 1]])
        for n, row in enumerate(found, 1)
    )
    raise InputError(
        f"{file} shows {len(found)} faces, from left to right {where}: give one as {file}#1, or --largest for the "
        "largest near the centre."
    )
