"""Sorts photographs by person: folders of links, a table, and JSON."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facenet_jax.curation.grouping import Grouped, group, k_means
from facenet_jax.embedders.engine import EmbeddedFaces
from facenet_jax.errors import InputError
from facenet_jax.recognition.finder import FaceFinder, Photos
from facenet_jax.runtime.files import write_whole
from facenet_jax.runtime.progress import Progress, Tally

CSV_FILE, JSON_FILE, PAGE_FILE = "people.csv", "people.json", "people.html"
# The folder for photographs of people seen once.
ONCE = "once"
# Bytes of a file name: disks allow 255, and a number may be added.
_LONGEST = 240
# Errors of disks without links; some of them give those for missing permission.
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EROFS)


@dataclass(frozen=True, eq=False)
class People:
    """The people on a set of photographs.

    Attributes:
      root: the folder of the photographs.
      faces: the faces found on them.
      grouped: the faces by person.
      embedder, crop: that the faces were embedded with.
      threshold: in words, with its measured errors; empty if the number of people was given.
    """

    root: Path
    faces: EmbeddedFaces
    grouped: Grouped
    embedder: str
    crop: str
    threshold: str

    @property
    def several(self) -> int:
        """How many people were seen more than once; their numbers come first."""
        return int(np.sum(self.grouped.sizes > 1))

    @property
    def once(self) -> int:
        """How many people were seen once."""
        return len(self.grouped.sizes) - self.several

    def name(self, person: int) -> str:
        """The name of a person's folder."""
        return f"person_{person + 1:03d}" if person < self.several else ONCE


def find_people(
    photos: Photos, finder: FaceFinder, within: tuple[float, str] | int, keep: Path, progress: Progress
) -> People:
    """Finds the faces of photographs, and groups them.

    Args:
      photos: the photographs of a folder.
      finder: finds and embeds the faces.
      within: squared distance up to which faces are one person's, and the same in words; or how many people there are.
      keep: a folder where embeddings are kept as they are made.
      progress: where to report progress.

    Raises:
      InputError: there are fewer than two faces, or they cannot be grouped in this way.
    """
    faces = finder.find(photos.images, keep, progress)
    if len(faces.photo) < 2:
        found = "no face" if not len(faces.photo) else "only one face"
        raise InputError(
            f"The {len(faces.files):,} photographs of {photos.root} show {found}, which leaves nothing to group; "
            "give more photographs, or another --crop."
        )
    progress.line(f"grouping {len(faces.photo):,} faces")
    if isinstance(within, int):
        grouped, words = k_means(faces.points, within), ""
    else:
        threshold, words = within
        grouped = group(faces.points, threshold)
    return People(photos.root, faces, grouped, finder.embedder.name, finder.crop, words)


def write_people(found: People, out: Path, progress: Progress) -> None:
    """Writes folders of links to the photographs (copies where the disk has no links), the table and the summary.

    Args:
      found: the people.
      out: an empty folder.
      progress: where to report progress.
    """
    people, names = found.grouped.people, found.faces.names
    tally = Tally(progress, "linking", len(people))
    done = 0
    for person in range(found.several + bool(found.once)):
        folder = out / found.name(person)
        here = np.flatnonzero(people == person if person < found.several else people >= person)
        folder.mkdir()
        for face in here.tolist():
            file = found.faces.files[int(found.faces.photo[face])]
            link(found.root / file, folder / _flat(names[face], file))
            done += 1
            tally.update(done)
    _write_table(found, out / CSV_FILE)
    write_whole(out / JSON_FILE, json.dumps(_summary(found), indent=1, allow_nan=False) + "\n")


def link(file: Path, place: Path) -> None:
    """Makes a link to a file, or a copy if the disk has no links; adds a number to a name that is taken."""
    number = 1
    free = place
    while os.path.lexists(free):
        number += 1
        free = place.with_name(f"{place.stem}~{number}{place.suffix}")
    try:
        free.symlink_to(file.resolve())
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(file, free)


def _flat(name: str, file: str) -> str:
    """`trip/1.jpg#2` -> `trip_1#2.jpg`: a file name with the suffix at its end.

    A name that is too long keeps its end, after a digest of the whole name that makes it unique.
    """
    stem, suffix = os.path.splitext(file)
    flat = (stem + name[len(file) :] + suffix).lstrip("./").replace(os.sep, "_")
    whole = os.fsencode(flat)
    if len(whole) <= _LONGEST:
        return flat
    digest = hashlib.blake2b(os.fsencode(name), digest_size=4).hexdigest()
    # Removes these continuation bytes of UTF-8 at the start, so that no letter is cut in two.
    return f"{digest}_" + os.fsdecode(whole[len(digest) + 1 - _LONGEST :].lstrip(bytes(range(0x80, 0xC0))))


def _write_table(found: People, file: Path) -> None:
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("file", "face", "x", "y", "width", "height", "person"))
        faces = found.faces
        for face, person in enumerate(found.grouped.people.tolist()):
            box = ["" if np.isnan(side) else round(side, 1) for side in faces.boxes[face].tolist()]
            table.writerow((faces.files[int(faces.photo[face])], int(faces.number[face]), *box, person + 1))


def _summary(found: People) -> dict[str, Any]:
    """The summary, as plain values."""
    return {
        "photographs": len(found.faces.files),
        "faces": len(found.faces.photo),
        "people_seen_several_times": found.several,
        "people_seen_once": found.once,
        "faces_of_each": found.grouped.sizes.tolist(),
        "method": found.grouped.method,
        "threshold": found.threshold,
        "embedder": found.embedder,
        "crop": found.crop,
        "without_a_face": [list(one) for one in found.faces.rejected],
    }


def format_people(found: People) -> str:
    """A table for the screen."""
    sizes = found.grouped.sizes
    rows = [
        ("found", f"{len(sizes):,} people on {len(found.faces.files):,} photographs, {int(sizes.sum()):,} faces"),
        ("how", found.grouped.method + (f" up to {found.threshold}" if found.threshold else "")),
        ("several times", f"{found.several:,} people, {int(sizes[: found.several].sum()):,} faces"),
        ("once", f"{found.once:,} people"),
    ]
    if found.faces.rejected:
        first = ", ".join(f"{file} ({reason})" for file, reason in found.faces.rejected[:3])
        more = ", ..." if len(found.faces.rejected) > 3 else ""
        rows.append(("without a face", f"{len(found.faces.rejected):,} photographs: {first}{more}"))
    lines = [f"{name:<16}{words}" for name, words in rows]
    most = int(sizes[0])
    for person in range(min(found.several, 10)):
        bar = "#" * -(-40 * int(sizes[person]) // most)
        lines.append(f"  {found.name(person):<14}{int(sizes[person]):>8,}  {bar}")
    return "\n".join(lines)
