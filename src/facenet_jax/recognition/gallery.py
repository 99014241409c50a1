"""A gallery `<person>/<photo>` -> an index: people enrolled, or more of them, or fewer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.engine import EmbeddedFaces, embed_images
from facenet_jax.embedders.labelled_images import LabelledImages, only, open_labelled
from facenet_jax.errors import MACHINE_ERRORS, InputError
from facenet_jax.evaluation.compact import calibrate
from facenet_jax.images.crop import Crop
from facenet_jax.images.decode import BadFace, Reason
from facenet_jax.images.digests import content_digest
from facenet_jax.recognition.index import PeopleIndex
from facenet_jax.recognition.index_files import PARTS
from facenet_jax.recognition.setup import Setup, open_setup
from facenet_jax.recognition.vectors import Vectors
from facenet_jax.runtime.progress import Progress, Tally


@dataclass(frozen=True)
class Gathered:
    """One face of each photograph of a gallery that was not enrolled before.

    Attributes:
      points: float32 [n, d].
      people, files, contents: name, photograph and its digest of each.
      before: how many photographs were enrolled before.
      rejected: (file, reason) of each that cannot be used.
      several: how many of these because they show several faces.
      missing: people of the gallery of whom there is no usable face, neither now nor from before.
    """

    points: NDArray[np.float32]
    people: list[str]
    files: list[str]
    contents: list[bytes]
    before: int
    rejected: list[tuple[str, str]]
    several: int
    missing: list[str]


def setup_for(root: Path, index: PeopleIndex | None, spec: str | None, step: int | None, crop: Crop | None) -> Setup:
    """Opens what is asked for, and where nothing is, what an index was enrolled with.

    Args:
      root: the folder of the index.
      index: that is there, if one is.
      spec, step, crop: as for `open_setup`; None: the index says it.

    Raises:
      InputError: neither says it, it cannot be opened, or it is not that of the index.
    """
    if index is None:
        if spec is None:
            raise InputError(f"{root} is a new index: say what makes the points with --embedder, such as sface.")
        return open_setup(spec, step, crop)
    if spec is None:
        spec, step = index.spec, index.step
    setup = open_setup(spec, step, crop or cast(Crop, index.crop))
    if index.digest != setup.embedder.digest:
        raise InputError(
            f"{root} was enrolled with {index.name}, and {setup.embedder.name} is another embedder (or has changed "
            "since: its digest is another), whose distances would mean nothing there; give that, or enrol anew."
        )
    if index.crop != setup.crop:
        raise InputError(f"{root} was enrolled with --crop {index.crop}, not {setup.crop}; give that, or enrol anew.")
    return setup


def enroll(
    root: Path,
    index: PeopleIndex | None,
    setup: Setup,
    gallery: Path,
    compact: bool,
    largest: bool,
    progress: Progress,
) -> tuple[PeopleIndex, Gathered]:
    """Enrols a gallery; what was embedded is kept until `save_index`, should this be cut off.

    Args:
      root: the folder of the index, held by this process.
      index: that is there, if one is.
      setup: makes the points, see `setup_for`.
      gallery: a folder `<person>/<photo>`, or a prepared dataset.
      compact: whether a new index stores bytes.
      largest: of several faces take the largest near the centre, rather than none.
      progress: where to say how far it is.

    Raises:
      InputError: the index has another form, or there is nobody to enrol.
    """
    if compact and index is not None and index.vectors.step is None:
        raise InputError(f"{root} stores float32; leave --compact out, or enrol the gallery into a new folder.")
    gathered = gather(setup, gallery, index.known() if index else set(), largest, root / PARTS, progress)
    if index is None:
        if not gathered.people:
            file, reason = gathered.rejected[0]
            raise InputError(
                f"None of the {len(gathered.rejected):,} photographs in {gallery} has a face to enrol (the first, "
                f"{file}: {reason})."
            )
        step = calibrate(gathered.points) if compact else None
        vectors = Vectors(gathered.points.shape[1], step)
        index = PeopleIndex(setup.spec, setup.step, setup.embedder.name, setup.embedder.digest, setup.crop, vectors)
    if gathered.people:
        index.add(gathered.points, gathered.people, gathered.files, gathered.contents)
    return index, gathered


def gather(
    setup: Setup, gallery: Path, known: set[tuple[str, bytes]], largest: bool, keep: Path, progress: Progress
) -> Gathered:
    """Finds the face of each photograph that is not known; see `enroll`.

    Args:
      known: (person, digest of the photograph's bytes) of those that are passed over.
      keep: where parts are kept, see `embed_images`.
    """
    folder = open_labelled(gallery, singles=True)
    contents, new, rejected = _unknown(folder, set(known), progress)
    before = len(folder.labels) - len(new) - len(rejected)
    points, photos, several = np.empty((0, 1), np.float32), list[int](), list[tuple[str, str]]()
    if new:
        faces = embed_images(setup.embedder, only(folder.images, new), setup.cutter, keep, progress)
        rows, photos, several = _one_each(faces, largest)
        points = faces.points[rows]
        rejected += [*faces.rejected, *several]
    numbers = [new[photo] for photo in photos]
    people = folder.labels[numbers].tolist()
    there = {person for person, _ in known} | set(people)
    return Gathered(
        points,
        people,
        [folder.images.keys[number] for number in numbers],
        [contents[number] for number in numbers],
        before,
        rejected,
        len(several),
        [person for person in dict.fromkeys(folder.labels.tolist()) if person not in there],
    )


def _unknown(
    folder: LabelledImages, known: set[tuple[str, bytes]], progress: Progress
) -> tuple[dict[int, bytes], list[int], list[tuple[str, str]]]:
    """Digests by number, the numbers of photographs to enrol, and those that cannot be read."""
    contents: dict[int, bytes] = {}
    new, rejected = [], []
    tally = Tally(progress, "reading", len(folder.labels))
    for number, person in enumerate(folder.labels.tolist()):
        tally.update(number)
        try:
            content = content_digest(folder.images.read(number))
        except (BadFace, OSError) as error:
            if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
                raise
            rejected.append((folder.images.keys[number], Reason.UNREADABLE.words))
            continue
        if (person, content) not in known:  # nor a second time under another name
            known.add((person, content))
            contents[number] = content
            new.append(number)
    return contents, new, rejected


def _one_each(faces: EmbeddedFaces, largest: bool) -> tuple[list[int], list[int], list[tuple[str, str]]]:
    """The row of each photograph's face, these photographs, and those that show several."""
    rows, photos, several = [], [], []
    for photo, file in enumerate(faces.files):
        found = faces.of(photo)
        row = found[0] if len(found) == 1 else next((row for row in found if largest and faces.central[row]), None)
        if row is not None:
            rows.append(row)
            photos.append(photo)
        elif found:
            several.append((file, f"{len(found)} faces"))
    return rows, photos, several
