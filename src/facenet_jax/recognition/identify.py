"""Names faces by the nearest people of an index, or as unknown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from facenet_jax.embedders.engine import EmbeddedFaces
from facenet_jax.recognition.index import Neighbour, PeopleIndex
from facenet_jax.recognition.thresholds import Threshold
from facenet_jax.runtime.files import write_whole

UNKNOWN = "unknown"
# Squared distances that differ by at most this are equal up to float32 rounding.
_TIE = 1e-6


@dataclass(frozen=True)
class Identified:
    """A face and who it may be.

    Attributes:
      face: its name, see `EmbeddedFaces.names`.
      file, number: its photograph, and its number there from the left.
      box: (x, y, width, height) in pixels; None where faces were not looked for.
      person: the nearest, if within the threshold; otherwise None.
      neighbours: the nearest people, the nearest first.
      tied: others who are as near as the nearest, where it is within the threshold: the name is one of several.
    """

    face: str
    file: str
    number: int
    box: tuple[float, float, float, float] | None
    person: str | None
    neighbours: tuple[Neighbour, ...]
    tied: tuple[str, ...] = ()


def identify(
    index: PeopleIndex, faces: EmbeddedFaces, threshold: Threshold, k: int, older: Threshold | None = None
) -> list[Identified]:
    """The k nearest people of each face; the nearest is its name if it is within the threshold.

    Args:
      index: the people.
      faces: the faces to name.
      threshold: the distance up to which a face is that of a person.
      k: how many people.
      older: the threshold for faces that the index's older embedder enrolled; None: there are none.
    """
    found = []
    rows = zip(
        faces.names, faces.photo.tolist(), faces.number.tolist(), index.nearest(faces.points, max(k, 2)), strict=True
    )
    for row, (name, photo, number, near) in enumerate(rows):
        x, y, width, height = faces.boxes[row].tolist()
        box = None if np.isnan(x) else (x, y, width, height)
        holds = older if older is not None and near[0].older else threshold
        person = near[0].person if near[0].distance <= holds.distance else None
        as_near = [other.person for other in near[1:] if other.distance - near[0].distance <= _TIE]
        tied = () if person is None else tuple(as_near)
        found.append(Identified(name, faces.files[photo], number, box, person, tuple(near[:k]), tied))
    return found


def format_identified(found: Sequence[Identified]) -> str:
    """A table for people: a line for each face, and its other neighbours below it."""
    faces = [one.face for one in found]
    names = [one.person or UNKNOWN for one in found] + [n.person for one in found for n in one.neighbours]
    first, second = (max(map(len, column), default=0) + 2 for column in (faces, names))
    lines = [f"{'face':<{first}}{'person':<{second}}{'squared distance':<18}nearest photograph"]
    for one in found:
        nearest = one.neighbours[0]
        lines.append(f"{one.face:<{first}}{one.person or UNKNOWN:<{second}}{nearest.distance:<18.4f}{nearest.file}")
        lines += [
            f"{'':<{first}}{near.person:<{second}}{near.distance:<18.4f}{near.file}" for near in one.neighbours[1:]
        ]
        if one.tied:
            lines.append(f"{'':<{first}}tie: {', '.join(one.tied)} as near as {one.person}; look at the gallery")
    return "\n".join(lines)


def write_identified(
    out: Path,
    found: Sequence[Identified],
    threshold: Threshold,
    older: Threshold | None,
    rejected: Sequence[tuple[str, str]],
) -> None:
    """Writes a .json file of everything, or a .csv file of the faces, whole or not at all."""
    write_whole(out, _json(found, threshold, older, rejected) if out.suffix == ".json" else _csv(found))


def _json(
    found: Sequence[Identified], threshold: Threshold, older: Threshold | None, rejected: Sequence[tuple[str, str]]
) -> str:
    document = {
        "distances": "squared L2",
        "threshold": asdict(threshold),
        **({} if older is None else {"older_threshold": asdict(older)}),
        "faces": [asdict(one) for one in found],
        "rejected": [{"file": file, "reason": reason} for file, reason in rejected],
    }
    return json.dumps(document, indent=1) + "\n"


def _csv(found: Sequence[Identified]) -> str:
    """A row for each neighbour of each face."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        [
            "file",
            "face",
            "x",
            "y",
            "width",
            "height",
            "person",
            "rank",
            "neighbour",
            "squared_distance",
            "nearest_file",
            "tied",
        ]
    )
    for one in found:
        head = [one.file, one.number, *(one.box or ("",) * 4), one.person or UNKNOWN]
        for rank, near in enumerate(one.neighbours, 1):
            rows.writerow([*head, rank, near.person, near.distance, near.file, "; ".join(one.tied)])
    return text.getvalue()
