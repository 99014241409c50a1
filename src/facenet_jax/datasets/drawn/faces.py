"""Drawn faces as a source: data for tests, demonstrations and measurements without any files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.drawn.people import render
from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.names import LazyNames
from facenet_jax.errors import InputError

# A drawn face costs about a millisecond, as much as a small network's step takes for it: a process keeps what it has
# drawn, up to this many bytes, for the next time round.
_KEPT_BYTES = 2**28


@dataclass(frozen=True)
class DrawnFaces:
    """The drawn identities first, ..., first + identities - 1, each with the same number of faces.

    Attributes:
      seed: chooses another world of faces.
      identities: how many identities.
      faces_per_identity: how many faces of each.
      first: the first identity; ranges that do not overlap have no identity in common.

    Raises:
      InputError: no identities or no faces.
    """

    seed: int
    identities: int
    faces_per_identity: int
    first: int = 0
    ignored: ClassVar[int] = 0
    _kept: dict[tuple[int, tuple[int, int]], NDArray[np.uint8]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.identities < 1 or self.faces_per_identity < 1 or self.first < 0:
            raise InputError(
                f"Cannot draw {self.identities} identities from number {self.first} with {self.faces_per_identity} "
                "faces each: give at least one identity, at least one face each and a first number from 0."
            )

    @cached_property
    def index(self) -> IdentityIndex:
        """Names are "drawn-" and the identity's number."""
        names = _DrawnNames(range(self.first, self.first + self.identities))
        return IdentityIndex(names, np.arange(self.identities + 1, dtype=np.int64) * self.faces_per_identity)

    @cached_property
    def digest(self) -> str:
        """Of the four numbers that say which faces these are."""
        numbers = f"drawn {self.seed} {self.first} {self.identities} {self.faces_per_identity}"
        return hashlib.blake2b(numbers.encode(), digest_size=16).hexdigest()

    def load(self, record: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Draws one face, uint8 [rows, columns, 3]; never a BadFace."""
        face = self._kept.get((record, size))
        if face is None:
            identity, exemplar = divmod(record, self.faces_per_identity)
            face = render(self.seed, self.first + identity, exemplar, size)
            if (len(self._kept) + 1) * face.nbytes <= _KEPT_BYTES:
                face.flags.writeable = False
                self._kept[record, size] = face
        return face

    def __getstate__(self) -> dict[str, Any]:
        drawn_from = {name: value for name, value in self.__dict__.items() if name != "index"}
        return {**drawn_from, "_kept": {}}

    def describe(self, record: int) -> str:
        """The face's name as if it were a file."""
        identity, exemplar = divmod(record, self.faces_per_identity)
        return f"{self.index.names[identity]}/{exemplar:04d}"

    def places(self) -> Iterator[str]:
        """As `describe`: no face lies anywhere."""
        return map(self.describe, range(self.index.records))


class _DrawnNames(LazyNames):
    """ "drawn-" and a number."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def name(self, number: int) -> str:
        """See LazyNames."""
        return f"drawn-{self._numbers[number]:07d}"
