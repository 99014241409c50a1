"""Holds an index of enrolled people and searches it exactly through faiss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.names import comparable
from facenet_jax.embedders import CheckpointEmbedder
from facenet_jax.errors import InputError, how_to_install
from facenet_jax.evaluation.compact import pack
from facenet_jax.images.crop import Crop
from facenet_jax.recognition.finder import FaceFinder, Known, open_finder
from facenet_jax.recognition.thresholds import Threshold, read_thresholds
from facenet_jax.runtime.cores import usable_cores

# Faces that a search first looks at, for each of the nearest people asked for.
_FACES_EACH = 4


@dataclass(frozen=True)
class Neighbour:
    """A person near a face.

    Attributes:
      person: the name.
      distance: squared L2, of the nearest of the person's faces.
      file: the photograph of that face, `<person>/<photo>`.
      older: whether that face was enrolled by `PeopleIndex.older`.
    """

    person: str
    distance: float
    file: str
    older: bool = False


@dataclass
class PeopleIndex:
    """Enrolled people and their faces.

    Attributes:
      spec, step: the spec of the embedder and the step of its checkpoint, see `FaceFinder`.
      name, digest: of the embedder; distances to points of others, except `older`, are meaningless.
      crop: how faces were cut.
      vectors: a point for each face.
      people: names.
      person: int64 [faces], whose face it is, a place in `people`.
      files: the photograph of each face, `<person>/<photo>`.
      contents: uint8 [faces, 16], the digest of that file.
      thresholds: the measured thresholds, as `read_thresholds` gives them.
      older: an embedder that enrolled faces before, with whose points those of this one can be compared.
      of_older: bool [faces], which faces it enrolled; empty where there is no `older`.
      older_thresholds: measured between this embedder and `older`.
    """

    spec: str
    step: int | None
    name: str
    digest: str
    crop: str
    vectors: Vectors
    people: list[str] = field(default_factory=list)
    person: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    files: list[str] = field(default_factory=list)
    contents: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 16), np.uint8))
    thresholds: list[Threshold] = field(default_factory=list)
    older: Known | None = None
    of_older: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))
    older_thresholds: list[Threshold] = field(default_factory=list)

    def open_finder(
        self, root: Path, spec: str | None, step: int | None, crop: Crop | None, flip: bool = False
    ) -> FaceFinder:
        """Opens the embedder that is asked for, by default the one that enrolled the people.

        A run that was trained with `config.compatible_with` the index's embedder is accepted too: `known` of the finder
        then names the embedder with whose points its own are compared.

        Args:
          root: the folder of the index.
          spec, step, crop: as for `open_finder`; None: those of the index.
          flip: as for `open_finder`; without a spec it must agree with the index.

        Raises:
          InputError: it cannot be opened, or its distances to these faces are meaningless.
        """
        if spec is None:
            spec, step = self.spec, self.step
        finder = open_finder(spec, step, crop or cast(Crop, self.crop), flip)
        own = finder.embedder
        compatible = isinstance(own, CheckpointEmbedder) and own.compatible_with == self.digest != own.digest
        if self.older is not None and (compatible or own.digest == self.older.digest):
            raise InputError(
                f"{root} holds faces that {self.older.name} enrolled and others of {self.name}; of these two embedders "
                f"the second alone can be compared with both, and {own.name} is another: give --embedder {self.spec}."
            )
        if compatible:
            finder = replace(finder, known=Known(self.spec, self.name, self.digest))
        elif self.digest != own.digest:
            raise InputError(
                f"{root} was enrolled with {self.name}, and {finder.embedder.name} is another embedder (or has changed "
                "since: its digest is another), whose distances would mean nothing there; give that, or enrol again."
            )
        if self.crop != finder.crop:
            raise InputError(
                f"{root} was enrolled with --crop {self.crop}, not {finder.crop}; give that, or enrol again."
            )
        return finder

    def hand_over(self, finder: FaceFinder) -> None:
        """Makes a compatible embedder the index's own for new faces; enrolled faces keep their points.

        Thresholds that were measured with the previous embedder are dropped, since they do not hold for this one.
        """
        assert self.older is None
        assert finder.known is not None
        self.older, self.of_older = finder.known if self.files else None, np.ones(len(self.files), bool)
        self.spec, self.step = finder.spec, finder.step
        self.name, self.digest = finder.embedder.name, finder.embedder.digest
        self.thresholds = []

    def read_thresholds(self, file: Path, finder: FaceFinder) -> tuple[list[Threshold], list[Threshold]]:
        """The thresholds of an evaluation: of the finder, and of the finder against `older`; see `read_thresholds`.

        Raises:
          InputError: as for `read_thresholds`, of either.
        """
        between = [] if self.older is None else read_thresholds(file, replace(finder, known=self.older), True)
        return read_thresholds(file, finder, among_people=True), between

    def known(self) -> set[tuple[str, bytes]]:
        """(person in comparable form, digest of the photograph's bytes) of every face."""
        return {
            (comparable(self.people[person]), content.tobytes())
            for person, content in zip(self.person.tolist(), self.contents, strict=True)
        }

    def add(
        self, points: NDArray[np.float32], people: Sequence[str], files: Sequence[str], contents: Sequence[bytes]
    ) -> None:
        """Enrols faces, of people who are new or known.

        Args:
          points: float32 [n, d], of norm 1.
          people, files, contents: of each, the person's name, the photograph and its digest.
        """
        numbers = {comparable(name): number for number, name in enumerate(self.people)}
        for name in people:
            if numbers.setdefault(comparable(name), len(self.people)) == len(self.people):
                self.people.append(name)
        self.vectors.add(points)
        self.person = np.append(self.person, [numbers[comparable(name)] for name in people]).astype(np.int64)
        self.files += files
        added = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, 16)
        self.contents = np.concatenate([self.contents, added])
        if self.older is not None:
            self.of_older = np.append(self.of_older, np.zeros(len(files), bool))

    def remove(self, names: Sequence[str]) -> int:
        """Removes people and photographs; returns how many faces that removed.

        Args:
          names: people, or photographs as `files` names them.

        Raises:
          InputError: somebody is not enrolled.
        """
        asked = {comparable(name) for name in names}
        people, files = list(map(comparable, self.people)), list(map(comparable, self.files))
        strangers = [name for name in names if comparable(name) not in {*people, *files}]
        if strangers:
            raise InputError(
                f"{', '.join(strangers)}: not enrolled under this name; the {len(self.people):,} names are those of "
                "the gallery's folders, a photograph is named NAME/PHOTO."
            )
        owners = self.person.tolist()
        rows = [row for row, file in enumerate(files) if file in asked or people[owners[row]] in asked]
        self.remove_rows(rows)
        return len(rows)

    def faces_of(self, person: str) -> int:
        """How many faces of a person are enrolled."""
        names = list(map(comparable, self.people))
        name = comparable(person)
        return int(np.count_nonzero(self.person == names.index(name))) if name in names else 0

    def remove_rows(self, rows: Sequence[int]) -> None:
        """Removes faces by their places, and people who have no other."""
        gone = np.zeros(len(self.files), bool)
        gone[list(rows)] = True
        self.vectors.remove(np.flatnonzero(gone).astype(np.int64))
        self.files = [file for file, off in zip(self.files, gone.tolist(), strict=True) if not off]
        self.contents = self.contents[~gone]
        if self.older is not None:
            self.of_older = self.of_older[~gone]
            if not self.of_older.any():
                self.older, self.older_thresholds = None, []
        stay, self.person = np.unique(self.person[~gone], return_inverse=True)
        self.people = [self.people[person] for person in stay.tolist()]

    def nearest(self, points: NDArray[np.float32], k: int) -> list[list[Neighbour]]:
        """The k nearest people of each point, each by the nearest of their faces, exactly.

        Args:
          points: float32 [q, d], of norm 1.
          k: how many people; all, where there are fewer.
        """
        if not len(points):
            return []
        k = min(k, len(self.people))
        wanted = min(_FACES_EACH * k, len(self.vectors))
        while True:
            distances, rows = self.vectors.nearest(points, wanted)
            whose = self.person[rows]
            firsts = [np.sort(np.unique(row, return_index=True)[1])[:k] for row in whose]
            if wanted == len(self.vectors) or min(len(first) for first in firsts) == k:
                break
            wanted = min(_FACES_EACH * wanted, len(self.vectors))
        return [
            [
                Neighbour(
                    self.people[whose[query, place]],
                    float(distances[query, place]),
                    self.files[rows[query, place]],
                    self.older is not None and bool(self.of_older[rows[query, place]]),
                )
                for place in first.tolist()
            ]
            for query, first in enumerate(firsts)
        ]


class Vectors:
    """Points in the order in which they were added: float32, or one byte a coordinate.

    Attributes:
      size: coordinates of a point.
      step: of the bytes, see `evaluation.compact`; None: float32.
      clipped, rounding: of all points that were added as bytes.
    """

    def __init__(self, size: int, step: float | None = None, _index: Any = None) -> None:
        """Starts empty.

        Args:
          size: coordinates of a point.
          step: store bytes with this step; None: float32.

        Raises:
          InputError: faiss is not installed.
        """
        faiss = _faiss()
        self.size, self.step, self.clipped, self.rounding = size, step, 0, 0.0
        if _index is not None:
            self._index = _index
        elif step is None:
            self._index = faiss.IndexFlatL2(size)
        else:
            # Stores codes from -128 to 127 unchanged: distances are those of integers.
            self._index = faiss.IndexScalarQuantizer(size, faiss.ScalarQuantizer.QT_8bit_direct_signed)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, points: NDArray[np.float32]) -> None:
        """Adds points, float32 [n, size]."""
        if self.step is None:
            self._index.add(np.ascontiguousarray(points))
            return
        packed = pack(points, self.step)
        self.clipped += packed.clipped
        self.rounding = max(self.rounding, packed.rounding)
        self._index.add(packed.codes.astype(np.float32))

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Removes points by their places; later points move up."""
        self._index.remove_ids(_faiss().IDSelectorBatch(rows))

    def nearest(self, points: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest of each point, exactly; if bytes are stored, the points are rounded too.

        Args:
          points: float32 [q, size].
          k: at most as many as there are.

        Returns:
          (squared distances float32 [q, k], ascending; places int64 [q, k]).
        """
        faiss = _faiss()
        # For a single query OpenMP's threads would wait for one another longer than they work.
        faiss.omp_set_num_threads(1 if len(points) == 1 else usable_cores())
        if self.step is None:
            distances, places = self._index.search(np.ascontiguousarray(points), k)
            return np.maximum(distances, 0), places
        codes = pack(points, self.step).codes.astype(np.float32)
        distances, places = self._index.search(codes, k)
        return (distances * np.float64(self.step) ** 2).astype(np.float32), places

    def write(self, file: Path) -> None:
        """Writes faiss's own format."""
        _faiss().write_index(self._index, str(file))


def read_vectors(file: Path, size: int, step: float | None, clipped: int, rounding: float) -> Vectors:
    """Reads a file of `Vectors.write`; the other arguments come from the manifest.

    Raises:
      InputError: faiss is not installed.
      ValueError: the file holds something else.
    """
    faiss = _faiss()
    try:
        index = faiss.read_index(str(file))
    except RuntimeError as error:
        raise ValueError(f"{file.name} is not a faiss index") from error
    kind = faiss.IndexFlatL2 if step is None else faiss.IndexScalarQuantizer
    fits = isinstance(index, kind) and index.d == size and index.metric_type == faiss.METRIC_L2
    if not fits or (step is not None and index.sq.qtype != faiss.ScalarQuantizer.QT_8bit_direct_signed):
        raise ValueError(f"{file.name} is another kind of index")
    vectors = Vectors(size, step, index)
    vectors.clipped, vectors.rounding = clipped, rounding
    return vectors


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError(f"Searching an index needs faiss: {how_to_install('index')}.") from error
    return faiss
