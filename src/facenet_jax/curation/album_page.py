"""Builds the page of an album: how well its people are separated, what to check, and everyone's faces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.prepared import PreparedSource
from facenet_jax.errors import InputError
from facenet_jax.images.decode import BadFace
from facenet_jax.recognition.index import PeopleIndex
from facenet_jax.recognition.index_files import REJECTS
from facenet_jax.report.page import Cell, Faces, Table, render, thumbnail
from facenet_jax.runtime.json_files import read_json

PAGE_FILE = "album.html"
# Limits of what the page shows, so that it can be looked through; everybody is in the index.
_MOST_PEOPLE, _MOST_FACES, _MOST_REJECTS = 500, 8, 100
# The share of strangers that may be named, at most, by the bound of the strictest threshold asked for.
_STRANGERS = 0.01


def rates_for(counts: NDArray[np.int64], photos: Path) -> list[float]:
    """False accept rates that an album's pairs resolve, the strictest last.

    A stranger is compared with every face, so the strictest rate is a hundredth divided by the number of faces, or the
    smallest that the pairs resolve.

    Args:
      counts: int64 [people], faces of each.
      photos: the album's photographs, for the error.

    Raises:
      InputError: there are no two people with two faces each.
    """
    several = int(np.count_nonzero(counts >= 2))
    if several < 2:
        raise InputError(
            f"{photos} has {several:,} people with two faces or more, and to measure how well people are separated "
            "takes two such; add photographs (`facenet-jax cluster` sorts photographs that are in no folders)."
        )
    faces = int(counts.sum())
    different = (faces**2 - int(np.square(counts).sum())) // 2
    least = max(1 / different, _STRANGERS / faces)
    steps = [digit * 10.0**-power for power in range(1, 10) for digit in (5, 2, 1)]
    strictest = min((step for step in steps if step >= least), default=0.5)
    return [*(far for far in (1e-2, 1e-3) if far > strictest), strictest]


def build_album(
    name: str, out: Path, faces: PreparedSource, index: PeopleIndex, evaluation: Path, identify: str
) -> str:
    """The whole page; it holds faces, as data URIs.

    Args:
      name: of the photographs' folder.
      out: the album's folder.
      faces: the faces that were cut out.
      index: everybody enrolled.
      evaluation: the JSON file of `evaluate photos`.
      identify: the command that names faces.
    """
    threshold = index.thresholds[0]
    audit = out / "audit" / "audit.json"
    found = read_json(audit) if audit.is_file() else None
    suspects = {one["face"] for one in found["wrong_labels"]} if found else set()
    people = [_person(faces, index, number, suspects) for number in range(min(len(faces.index.names), _MOST_PEOPLE))]
    promise = threshold.promise(len(index.files), len(index.people))
    identified = read_json(newest(out / "results", "identify"))["embedders"][-1]["result"]
    return render(
        "album.html",
        _shown(f"Album: {name}"),
        faces=faces.index.records,
        people_number=len(faces.index.names),
        embedder=index.name,
        crop=index.crop,
        enrolled=len(index.files),
        enrolled_people=len(index.people),
        rates=_rates(read_json(evaluation)["embedders"][-1]["result"]),
        identified=identified,
        threshold=str(threshold),
        promise=promise.removeprefix("warning: "),
        audited=found is not None,
        caution=found["caution"] if found else "",
        to_look_at=_to_look_at(found) if found else None,
        identify=identify,
        people=people,
        not_enrolled=_not_enrolled(out / "index" / REJECTS),
        most=_MOST_REJECTS,
        more=max(0, len(faces.index.names) - _MOST_PEOPLE),
    )


def newest(folder: Path, protocol: str) -> Path:
    """The newest result of a protocol: there are several if the same faces were measured by several paths."""
    return max(folder.glob(f"{protocol}*.json"), key=lambda file: (file.stat().st_mtime_ns, file.name))


def _rates(result: dict[str, Any]) -> Table:
    """A table of the resolved rates: FAR, VAL and threshold."""
    rows = [
        [
            Cell(f"{100 * rate['far']:.3g} %", rate["far"]),
            Cell(f"{100 * rate['val']:.1f} %", rate["val"]),
            Cell(f"{rate['threshold']:.3f}", rate["threshold"]),
        ]
        for rate in result["rates"]
        if rate["val"] is not None and rate["threshold"] is not None
    ]
    return Table(("different people", "same person", "up to"), rows)


def _to_look_at(found: dict[str, Any]) -> Table:
    counts = (
        ("photographs that probably show somebody else", len(found["wrong_labels"])),
        ("people who are probably two", len(found["merged"])),
        ("pairs of people who are probably one", len(found["split"])),
        ("copies of a file", len(found["copies"])),
        ("pairs of nearly the same picture", len(found["near_copies"])),
    )
    return Table(("", "how many"), [(what, Cell(f"{count:,}", count)) for what, count in counts if count])


def _person(faces: PreparedSource, index: PeopleIndex, number: int, suspects: set[str]) -> Faces:
    """A line about a person, and some of the faces."""
    first, stop = faces.index.offsets[number : number + 2].tolist()
    shown = []
    # Faces that probably show somebody else come first.
    records = sorted(range(first, stop), key=lambda record: faces.place(record) not in suspects)
    for record in records[:_MOST_FACES]:
        try:
            picture = thumbnail(faces.read(record), 72)
        except (BadFace, InputError):
            picture = ""
        shown.append((faces.place(record), picture))
    name = faces.index.names[number]
    enrolled = index.faces_of(name)
    doubtful = sum(faces.place(record) in suspects for record in range(first, stop))
    line = f"{name}: {stop - first:,} faces, {enrolled:,} enrolled"
    if doubtful:
        line += f", {doubtful:,} probably of somebody else"
    return Faces(_shown(line), shown)


def _not_enrolled(rejects: Path) -> list[str]:
    """Photographs that were passed over, each with the reason."""
    if not rejects.is_file():
        return []
    lines = rejects.read_bytes().decode("utf-8", "backslashreplace").splitlines()
    return [f"{file} ({reason})" for file, _, reason in (line.rpartition("\t") for line in lines)]


def _shown(text: str) -> str:
    """A text in which bytes of file names that are not UTF-8 are escaped."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
