"""Updates an index from a gallery `<person>/<photo>`: adds and removes people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.names import comparable
from facenet_jax.datasets.walk import in_words
from facenet_jax.embedders.engine import EmbeddedFaces
from facenet_jax.embedders.labelled_images import LabelledImages, only, open_labelled
from facenet_jax.errors import InputError
from facenet_jax.evaluation.compact import calibrate
from facenet_jax.images.decode import BadFace
from facenet_jax.images.digests import content_digest
from facenet_jax.recognition.finder import FaceFinder
from facenet_jax.recognition.index import PeopleIndex, Vectors
from facenet_jax.recognition.index_files import PARTS
from facenet_jax.runtime.progress import Progress, Tally


@dataclass(frozen=True)
class NewFaces:
    """One face of each photograph of a gallery that was not enrolled before.

    Attributes:
      points: float32 [n, d].
      people, files, contents: of each, the person's name, the photograph and its digest.
      before: how many photographs were enrolled before.
      rejected: (file, reason) of each that cannot be used.
      several: how many of these because they show several faces.
      missing: people of the gallery who have no usable face, here or in the index.
      passed_over: files of the gallery that are not images, in words.
      outdated: (place in the index, photograph, what became of it) of each face enrolled before whose photograph the
        gallery does not hold any more under that person.
    """

    points: NDArray[np.float32]
    people: list[str]
    files: list[str]
    contents: list[bytes]
    before: int
    rejected: list[tuple[str, str]]
    several: int
    missing: list[str]
    passed_over: str
    outdated: list[tuple[int, str, str]]


def enroll(
    root: Path,
    index: PeopleIndex | None,
    finder: FaceFinder,
    gallery: Path,
    compact: bool,
    largest: bool,
    sync: bool,
    progress: Progress,
) -> tuple[PeopleIndex, NewFaces]:
    """Enrols a gallery; embeddings are kept on disk until `save_index`, in case this is interrupted.

    Args:
      root: the folder of the index, held by this process.
      index: the index in the folder; None if there is none.
      finder: that of the index, if there is one.
      gallery: a folder `<person>/<photo>`, or a prepared dataset.
      compact: whether a new index stores bytes.
      largest: of several faces take the largest near the centre, rather than none.
      sync: remove the faces whose photographs the gallery does not hold any more.
      progress: where to report progress.

    Raises:
      InputError: the index has another form, there is nobody to enrol, or the gallery has none of the enrolled faces.
    """
    if compact and index is not None and index.vectors.step is None:
        raise InputError(f"{root} stores float32; leave --compact out, or enrol the gallery into a new folder.")
    new = _new_faces(finder, gallery, index, largest, root / PARTS, progress)
    if index is None:
        if not new.people:
            file, reason = new.rejected[0]
            raise InputError(
                f"None of the {len(new.rejected):,} photographs in {gallery} has a face to enrol (the first, "
                f"{file}: {reason})."
            )
        step = calibrate(new.points) if compact else None
        vectors = Vectors(new.points.shape[1], step)
        embedder = finder.embedder
        index = PeopleIndex(finder.spec, finder.step, embedder.name, embedder.digest, finder.crop, vectors)
    if sync and new.outdated:
        if len(new.outdated) == len(index.files):
            raise InputError(
                f"--sync would remove every face of {root}: {gallery} holds none of its photographs; give its gallery, "
                "or enrol this one into a new folder."
            )
        index.remove_rows([row for row, _, _ in new.outdated])
    if new.people:
        index.add(new.points, new.people, new.files, new.contents)
    return index, new


def _new_faces(
    finder: FaceFinder, gallery: Path, index: PeopleIndex | None, largest: bool, keep: Path, progress: Progress
) -> NewFaces:
    """The face of each photograph, without those that the index has by person and content."""
    folder = open_labelled(gallery, singles=True)
    contents, rejected = _contents(folder, progress)
    known = index.known() if index else set()
    outdated = _follow(index, folder, contents) if index else []
    numbers, seen = list[int](), set(known)
    for number, content in contents.items():
        face = comparable(str(folder.labels[number])), content
        if face not in seen:  # nor a second time under another name
            seen.add(face)
            numbers.append(number)
    before = len(contents) - len(numbers)
    points, photos, several = np.empty((0, 1), np.float32), list[int](), list[tuple[str, str]]()
    if numbers:
        faces = finder.find(only(folder.images, numbers), keep, progress)
        rows, photos, several = _one_each(faces, largest)
        points = faces.points[rows]
        rejected += [*faces.rejected, *several]
    numbers = [numbers[photo] for photo in photos]
    people = folder.labels[numbers].tolist()
    there = {person for person, _ in known} | set(map(comparable, people))
    return NewFaces(
        points,
        people,
        [folder.images.keys[number] for number in numbers],
        [contents[number] for number in numbers],
        before,
        rejected,
        len(several),
        [
            person
            for person in dict.fromkeys([*folder.labels.tolist(), *folder.without_images])
            if comparable(person) not in there
        ],
        in_words(folder.passed_over),
        outdated,
    )


def _follow(index: PeopleIndex, folder: LabelledImages, contents: dict[int, bytes]) -> list[tuple[int, str, str]]:
    """Updates the names of the index's photographs, and finds those that the gallery no longer has under that person.

    A photograph that cannot be read may be unchanged, so it stays.

    Returns:
      see `NewFaces.outdated`.
    """
    keys = folder.images.keys
    now = {comparable(key): contents.get(number) for number, key in enumerate(keys)}
    # A person's folder that cannot be read has one entry, named like the person.
    closed = {key.partition("/")[0] for key, content in now.items() if content is None and _is_folder(key)}
    names: dict[tuple[str, bytes], str] = {}
    elsewhere: dict[bytes, str] = {}
    for number, content in contents.items():
        names.setdefault((comparable(str(folder.labels[number])), content), keys[number])
        elsewhere.setdefault(content, keys[number])
    outdated = []
    rows = zip(index.person.tolist(), list(index.files), index.contents, strict=True)
    for row, (person, file, digest) in enumerate(rows):
        content, name = digest.tobytes(), comparable(file)
        key = names.get((comparable(index.people[person]), content))
        if key is not None:
            if now.get(name) != content:
                index.files[row] = key
        elif content in elsewhere:
            outdated.append((row, file, f"moved to {elsewhere[content]}"))
        elif now.get(name, content) is not None and comparable(index.people[person]) not in closed:
            outdated.append((row, file, "replaced" if name in now else "missing"))
    return outdated


def _is_folder(key: str) -> bool:
    person, _, name = key.partition("/")
    return person == name


def _contents(folder: LabelledImages, progress: Progress) -> tuple[dict[int, bytes], list[tuple[str, str]]]:
    """The digest of each photograph, by its number, and (file, reason) of those that cannot be read."""
    contents: dict[int, bytes] = {}
    rejected = []
    tally = Tally(progress, "reading", len(folder.labels))
    for number in range(len(folder.labels)):
        tally.update(number)
        try:
            contents[number] = content_digest(folder.images.read(number))
        except BadFace as bad:
            rejected.append((folder.images.keys[number], bad.reason.words))
    return contents, rejected


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
