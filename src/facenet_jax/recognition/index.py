"""People by their faces: who is enrolled, and who is nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError
from facenet_jax.recognition.thresholds import Threshold
from facenet_jax.recognition.vectors import Vectors

# So many faces a person are looked at first when the nearest people are asked for.
_FACES_EACH = 4


@dataclass(frozen=True)
class Neighbour:
    """A person near a face.

    Attributes:
      person: the name.
      distance: squared L2, of the nearest of the person's faces.
      file: the photograph of that face, `<person>/<photo>`.
    """

    person: str
    distance: float
    file: str


@dataclass
class PeopleIndex:
    """Enrolled people and their faces.

    Attributes:
      spec, step: how the embedder was named, and of which checkpoint it is, see `Setup`.
      name, digest: of the embedder; distances to points of any other would mean nothing.
      crop: how faces were cut.
      vectors: a point for each face.
      people: names.
      person: int64 [faces], whose face it is, a place in `people`.
      files: the photograph of each face, `<person>/<photo>`.
      contents: uint8 [faces, 16], the digest of that file.
      thresholds: that were measured, the strictest first.
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

    def known(self) -> set[tuple[str, bytes]]:
        """(person, digest of the photograph's bytes) of every face."""
        return {
            (self.people[person], content.tobytes())
            for person, content in zip(self.person.tolist(), self.contents, strict=True)
        }

    def add(
        self, points: NDArray[np.float32], people: Sequence[str], files: Sequence[str], contents: Sequence[bytes]
    ) -> None:
        """Enrols faces, of people who are new or known.

        Args:
          points: float32 [n, d], of norm 1.
          people, files, contents: name, photograph and its digest of each.
        """
        numbers = {name: number for number, name in enumerate(self.people)}
        for name in people:
            if numbers.setdefault(name, len(self.people)) == len(self.people):
                self.people.append(name)
        self.vectors.add(points)
        self.person = np.append(self.person, [numbers[name] for name in people]).astype(np.int64)
        self.files += files
        added = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, 16)
        self.contents = np.concatenate([self.contents, added])

    def remove(self, names: Sequence[str]) -> int:
        """Removes people, and gives back how many faces went with them.

        Raises:
          InputError: somebody is not enrolled.
        """
        strangers = [name for name in names if name not in self.people]
        if strangers:
            raise InputError(
                f"{', '.join(strangers)}: not enrolled under this name; the {len(self.people):,} names are those of "
                "the gallery's folders."
            )
        leaving = np.isin(np.array(self.people), names)
        gone = leaving[self.person]
        self.vectors.remove(np.flatnonzero(gone).astype(np.int64))
        numbers = np.cumsum(~leaving) - 1
        self.person = numbers[self.person[~gone]]
        self.files = [file for file, off in zip(self.files, gone.tolist(), strict=True) if not off]
        self.contents = self.contents[~gone]
        self.people = [name for name, off in zip(self.people, leaving.tolist(), strict=True) if not off]
        return int(gone.sum())

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
                    self.people[whose[query, place]], float(distances[query, place]), self.files[rows[query, place]]
                )
                for place in first.tolist()
            ]
            for query, first in enumerate(firsts)
        ]
