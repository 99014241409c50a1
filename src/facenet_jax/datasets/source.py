"""The interface of all sources of faces, and code shared by those that list files."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.walk import stored_path
from facenet_jax.images.decode import MAX_BYTES, BadFace, Reason, decode, reason_of
from facenet_jax.runtime.files import files_digest


class FaceSource(Protocol):
    """Faces by record number.

    A source is pickled once for every worker process, so it holds arrays and bytes rather than an object a record.
    """

    @property
    def index(self) -> IdentityIndex:
        """Which records belong to which identity."""
        ...

    @property
    def digest(self) -> str:
        """A fingerprint of which faces these are, in hexadecimal, the same at another place: resuming compares it."""
        ...

    @property
    def ignored(self) -> int:
        """How many entries were passed over because they are not images."""
        ...

    def load(self, record: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """One face's pixels.

        Args:
          record: in [0, index.records).
          size: (rows, columns) in pixels.

        Returns:
          uint8 [rows, columns, 3].

        Raises:
          decode.BadFace: this face cannot be decoded.
        """
        ...

    def describe(self, record: int) -> str:
        """Where the face comes from, for people: a path."""
        ...

    def places(self) -> Iterable[str]:
        """Where each face lies in the source, in the order of the records, `identity/image` in a folder: its name in
        lists of faces."""
        ...


class StoredFaces(FaceSource, Protocol):
    """Faces that are stored as image files or as records of a file; drawn faces are not."""

    def read(self, record: int) -> bytes:
        """The bytes of one face's image file.

        Raises:
          decode.BadFace: there are none.
        """
        ...

    def place(self, record: int) -> str:
        """Where one face lies, as in `places`."""
        ...

    def files_digest(self) -> str:
        """A fingerprint that is another one also where an image was replaced under its name."""
        ...


class Reader(Protocol):
    """Reads a face's bytes in a worker process, so it is small when pickled."""

    def read(self, place: str) -> bytes:
        """The bytes of an image file.

        Args:
          place: what `ListedFaces.places` gave.

        Raises:
          BadFace: there are none.
        """
        ...


class ListedFaces(ABC):
    """Faces that lie at places that a folder, a manifest or a RecordIO set lists: what can be prepared.

    Attributes:
      kind: folder, manifest or recordio.
      root: the folder where places start.
      index, digest, ignored: see FaceSource.
      passed_over: what was passed over in listing, by suffix or reason.
      without_images: the identities' folders that hold no image.
      reader: what reads the faces.
    """

    kind: str
    root: Path
    index: IdentityIndex
    digest: str
    ignored: int = 0
    passed_over: Mapping[str, int] = MappingProxyType({})
    without_images: Sequence[str] = ()
    reader: Reader

    @abstractmethod
    def places(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """Where the faces start, ..., stop - 1 lie, within the source; of all unless said."""

    def place(self, record: int) -> str:
        """Where one face lies, within the source."""
        return next(self.places(record, record + 1))

    def describe(self, record: int) -> str:
        """The face's path."""
        return os.path.join(self.root, self.place(record))

    def read(self, record: int) -> bytes:
        """The bytes of one face's image file: see StoredFaces."""
        return self.reader.read(self.place(record))

    def load(self, record: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Decodes one face: see `decode.decode`."""
        return decode(self.read(record), size)

    def files_digest(self) -> str:
        """Of all files' names, sizes and times: see StoredFaces."""
        return files_digest(self.root, [self.root / place for place in self.places()])


@dataclass(frozen=True)
class FileReader:
    """Reads files below a root.

    Attributes:
      root: of relative places.
    """

    root: Path

    def read(self, place: str) -> bytes:
        """The bytes of a regular file: see Reader."""
        try:
            # Opening must not wait for a pipe: a manifest can name anything. No file object, which is slower.
            descriptor = os.open(stored_path(self.root, place), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise BadFace(Reason.UNREADABLE)
                if status.st_size > MAX_BYTES:
                    raise BadFace(Reason.TOO_LARGE)
                data = os.read(descriptor, status.st_size + 1)
                while len(data) != status.st_size and (more := os.read(descriptor, 2**20)):
                    data += more  # a file that grows, or comes piece by piece
                return data
            finally:
                os.close(descriptor)
        except ValueError as error:  # a NUL in a manifest's path
            raise BadFace(Reason.UNREADABLE) from error
        except OSError as error:
            raise BadFace(reason_of(error)) from error
