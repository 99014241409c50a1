"""Groups of faces -> a contact sheet: the people seen most often first, those seen once at the end."""

from __future__ import annotations

import html

import numpy as np
from PIL import Image

from facenet_jax.curation.people import CSV_FILE, ONCE, People
from facenet_jax.datasets.sources import FileReader
from facenet_jax.images.decode import BadFace, decode_whole
from facenet_jax.report.page import note, page, section, thumbnail
from facenet_jax.runtime.progress import Progress, Tally

# A page of more is no longer looked through; all are in the folders and the table.
_MOST_PEOPLE, _MOST_FACES, _MOST_ONCE = 300, 24, 120
_SIDE = 84
# What is shown about a face, so many times the longer side of its box.
_MARGIN = 1.3
_STYLE = """
.person { border-top: 1px solid #ddd; padding: .75rem 0; }
h2 + .person { border-top: 0; }
.person h3 { margin: 0 0 .4rem; } .person h3 span { color: #666; font-weight: 400; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(72px, 1fr)); gap: 4px; }
.sheet img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 4px; }
"""


def build_sheet(found: People, progress: Progress) -> str:
    """The whole page; it holds faces, as data URIs.

    Args:
      found: who is shown.
      progress: where to say how far it is.
    """
    sizes = found.grouped.sizes
    shown = _chosen(found)
    thumbnails = _cut(found, [face for faces in shown.values() for face in faces], progress)
    sheets = []
    for person, faces in shown.items():
        if person < found.several:
            name, count = found.name(person).replace("_", " "), int(sizes[person])
            more = "" if count == len(faces) else f", {len(faces)} of them shown"
            head = f"<h3>{name} <span>{count:,} faces{more}</span></h3>"
            sheets.append(f"<div class=person>{head}{_sheet(found, faces, thumbnails)}</div>")
    hidden = found.several - len(sheets)
    once = shown.get(found.several, []) if found.once else []
    sections = [
        section(
            f"{found.several:,} people seen several times",
            *sheets,
            note(f"{hidden:,} more people are in {CSV_FILE}.") if hidden else "",
        ),
        section(
            f"{found.once:,} people seen once",
            _sheet(found, once, thumbnails) if once else "",
            note(f"{len(once):,} of them are shown; all are in {ONCE}/.") if len(once) < found.once else "",
        ),
    ]
    how = found.grouped.method + (f" up to {found.threshold}" if found.threshold else "")
    lead = note(
        f"{int(sizes.sum()):,} faces on {len(found.faces.files):,} photographs, by {found.embedder}, {how}. "
        f"{len(found.faces.rejected):,} photographs gave no face. Point at a face to read where it is from."
    )
    return page(f"{len(sizes):,} people", [lead, *(one for one in sections if one)], _STYLE)


def _chosen(found: People) -> dict[int, list[int]]:
    """The faces to show of each person, the most typical first; of those seen once under the first such number."""
    people, points = found.grouped.people, found.faces.points
    shown = {}
    for person in range(min(found.several, _MOST_PEOPLE)):
        here = np.flatnonzero(people == person)
        typical = points[here] @ points[here].mean(0)
        shown[person] = here[np.argsort(-typical, kind="stable")[:_MOST_FACES]].tolist()
    if found.once:
        shown[found.several] = np.flatnonzero(people >= found.several)[:_MOST_ONCE].tolist()
    return shown


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
            except BadFace:  # gone since it was embedded
                picture = None
        if picture is not None:
            thumbnails[face] = thumbnail(_about(picture, found.faces.boxes[face].tolist()), _SIDE)
        tally.update(done)
    return thumbnails


def _about(picture: Image.Image, box: list[float]) -> Image.Image:
    """The square about a face's box, or all of a picture in which nobody looked for faces."""
    if np.isnan(box).any():
        return picture
    x, y, width, height = box
    side = _MARGIN * max(width, height)
    left, top = round(x + (width - side) / 2), round(y + (height - side) / 2)
    return picture.crop((left, top, left + round(side), top + round(side)))


def _sheet(found: People, faces: list[int], thumbnails: dict[int, str]) -> str:
    images = []
    names = found.faces.names
    for face in faces:
        label = html.escape(names[face], quote=True)
        if face in thumbnails:
            images.append(f'<img loading=lazy alt="{label}" title="{label}" src="{thumbnails[face]}">')
    return f"<div class=sheet>{''.join(images)}</div>"
