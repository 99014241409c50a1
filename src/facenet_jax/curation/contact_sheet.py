"""Builds a contact sheet of groups of faces: the people seen most often first, those seen once at the end."""

from __future__ import annotations

import numpy as np
from PIL import Image

from facenet_jax.curation.people import CSV_FILE, ONCE, People
from facenet_jax.datasets.source import FileReader
from facenet_jax.images.decode import BadFace, decode_whole
from facenet_jax.report.page import render, thumbnail
from facenet_jax.runtime.progress import Progress, Tally

# Limits of what the page shows, so that it can be looked through; everything is in the folders and the table.
_MOST_PEOPLE, _MOST_FACES, _MOST_ONCE = 300, 24, 120
_SIDE = 84
# Side of the square shown around a face, in lengths of the longer side of its box.
_MARGIN = 1.3


def build_sheet(found: People, progress: Progress) -> str:
    """The whole page; it holds faces, as data URIs.

    Args:
      found: the people to show.
      progress: where to report progress.
    """
    sizes = found.grouped.sizes
    chosen, once = _chosen(found)
    thumbnails = _cut(found, [face for faces in (*chosen, once) for face in faces], progress)

    def pictures(faces: list[int]) -> list[tuple[str, str]]:
        return [(found.faces.names[face], thumbnails[face]) for face in faces if face in thumbnails]

    return render(
        "people.html",
        f"{len(sizes):,} people",
        faces=int(sizes.sum()),
        photographs=len(found.faces.files),
        rejected=len(found.faces.rejected),
        embedder=found.embedder,
        how=found.grouped.method + (f" up to {found.threshold}" if found.threshold else ""),
        several=found.several,
        people=[
            (found.name(person).replace("_", " "), int(sizes[person]), pictures(faces))
            for person, faces in enumerate(chosen)
        ],
        once=found.once,
        once_shown=pictures(once),
        csv_file=CSV_FILE,
        once_folder=ONCE,
    )


def _chosen(found: People) -> tuple[list[list[int]], list[int]]:
    """The faces to show of each person, the most typical first, and those of people seen once."""
    people, points = found.grouped.people, found.faces.points
    shown = []
    for person in range(min(found.several, _MOST_PEOPLE)):
        here = np.flatnonzero(people == person)
        typical = points[here] @ points[here].mean(0)
        shown.append(here[np.argsort(-typical, kind="stable")[:_MOST_FACES]].tolist())
    return shown, np.flatnonzero(people >= found.several)[:_MOST_ONCE].tolist()


def _cut(found: People, faces: list[int], progress: Progress) -> dict[int, str]:
    """Face -> its thumbnail; each photograph is read once."""
    reader, thumbnails = FileReader(found.root), {}
    tally = Tally(progress, "drawing", len(faces))
    photo, picture = -1, None
    for done, face in enumerate(sorted(faces, key=lambda one: int(found.faces.photo[one])), 1):
        if photo != int(found.faces.photo[face]):
            photo = int(found.faces.photo[face])
            try:
                picture = Image.fromarray(decode_whole(reader.read(found.faces.files[photo])))
            except BadFace:  # removed since it was embedded
                picture = None
        if picture is not None:
            thumbnails[face] = thumbnail(_about(picture, found.faces.boxes[face].tolist()), _SIDE)
        tally.update(done)
    return thumbnails


def _about(picture: Image.Image, box: list[float]) -> Image.Image:
    """The square around a face's box, or the whole picture if faces were not looked for."""
    if np.isnan(box).any():
        return picture
    x, y, width, height = box
    side = _MARGIN * max(width, height)
    left, top = round(x + (width - side) / 2), round(y + (height - side) / 2)
    return picture.crop((left, top, left + round(side), top + round(side)))
