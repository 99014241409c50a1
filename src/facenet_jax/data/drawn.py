"""Drawn faces as a source: data for tests, demonstrations and measurements without any files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from facenet_jax.data import synthetic
from facenet_jax.data.index import IdentityIndex
from facenet_jax.errors import InputError


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

    def __post_init__(self) -> None:
        if self.identities < 1 or self.faces_per_identity < 1 or self.first < 0:
            raise InputError(
                f"Cannot draw {self.identities} identities from number {self.first} with {self.faces_per_identity} "
                "faces each: give at least one identity, at least one face each and a first number from 0."
            )

    @cached_property
    def index(self) -> IdentityIndex:
        """Names are "drawn-" and the identity's number."""
        names = [f"drawn-{identity:07d}" for identity in range(self.first, self.first + self.identities)]
        return IdentityIndex(names, np.arange(self.identities + 1, dtype=np.int64) * self.faces_per_identity)

    @cached_property
    def digest(self) -> str:
        """Of the four numbers that say which faces these are."""
        numbers = f"drawn {self.seed} {self.first} {self.identities} {self.faces_per_identity}"
        return hashlib.blake2b(numbers.encode(), digest_size=16).hexdigest()

    def load(self, record: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Draws one face, uint8 [rows, columns, 3]; never a BadFace."""
        identity, exemplar = divmod(record, self.faces_per_identity)
        return synthetic.render(self.seed, self.first + identity, exemplar, size)

    def describe(self, record: int) -> str:
        """The face's name as if it were a file."""
        identity, exemplar = divmod(record, self.faces_per_identity)
        return f"{self.index.names[identity]}/{exemplar:04d}"
