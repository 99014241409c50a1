"""What can be prepared: a folder, a manifest, a RecordIO set."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.folder import FolderSource
from facenet_jax.errors import MACHINE_ERRORS, InputError
from facenet_jax.images.decode import MAX_BYTES, BadFace, Reason


class Reader(Protocol):
    """Reads a face's bytes in a worker process, so it is small when pickled."""

    def read(self, place: str) -> bytes:
        """The bytes of an image file.

        Args:
          place: what `Source.places` gave.

        Raises:
          BadFace: there are none to be had.
        """
        ...


class Source(Protocol):
    """Faces to prepare, in the order of their identities."""

    @property
    def kind(self) -> str:
        """folder, manifest or recordio."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The identities' names."""
        ...

    @property
    def offsets(self) -> NDArray[np.int64]:
        """int64 [identities + 1]; the faces of identity i are offsets[i], ..., offsets[i + 1] - 1."""
        ...

    @property
    def digest(self) -> str:
        """A fingerprint of which faces these are, in hexadecimal, the same at another place."""
        ...

    @property
    def ignored(self) -> int:
        """How many entries were passed over because they are no images."""
        ...

    @property
    def reader(self) -> Reader:
        """What reads them."""
        ...

    def places(self, start: int, stop: int) -> list[str]:
        """Where the faces start, ..., stop - 1 lie, within the source."""
        ...


def open_source(path: Path) -> Source:
    """Opens a folder `<identity>/<image>`, a manifest (.csv, .parquet) or an InsightFace RecordIO set.

    Args:
      path: a folder; a manifest; a folder with train.rec and train.idx, or such a .rec file.

    Raises:
      InputError: there is none of these, or it is damaged.
    """
    from facenet_jax.datasets.manifest import Manifest
    from facenet_jax.datasets.recordio import RecordIO

    try:
        if path.suffix.lower() in (".csv", ".parquet") and path.is_file():
            return Manifest(path)
        if path.suffix.lower() == ".rec" or (path / "train.rec").is_file():
            return RecordIO(path if path.suffix.lower() == ".rec" else path / "train.rec")
        if path.is_file():
            raise InputError(
                f"{path} is neither a folder nor a manifest: give a folder of <identity>/<image>, a .csv or .parquet "
                "file with the columns path and identity, or a folder with train.rec, train.idx and property."
            )
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check it.") from error
    return Folder(path)


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
            # Not to hang on a pipe: a manifest can name anything.
            descriptor = os.open(self.root / place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise BadFace(Reason.UNREADABLE)
                if status.st_size > MAX_BYTES:
                    raise BadFace(Reason.TOO_LARGE)
                return file.read()
        except (OSError, ValueError) as error:  # ValueError: a NUL in a manifest's path
            if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
                raise
            raise BadFace(Reason.UNREADABLE) from error


class Folder:
    """A folder `<identity>/<image>`: see `folder.FolderSource`."""

    kind = "folder"

    def __init__(self, root: Path) -> None:
        self._folder = FolderSource(root, singles=True)
        self.names, self.offsets = self._folder.index.names, self._folder.index.offsets
        self.digest, self.ignored = self._folder.digest, self._folder.ignored
        self.reader = FileReader(root)

    def places(self, start: int, stop: int) -> list[str]:
        """The images' paths within the folder."""
        return [self._folder.place(record) for record in range(start, stop)]
