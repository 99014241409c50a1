"""A folder of faces as a source: `<identity>/<image>`."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.names import check_distinct
from facenet_jax.datasets.source import FileReader, ListedFaces
from facenet_jax.datasets.walk import (
    TOO_HIGH,
    ignored,
    in_words,
    is_folder,
    is_image,
    is_image_name,
    kind_of,
    list_entries,
)
from facenet_jax.errors import MACHINE_ERRORS, InputError
from facenet_jax.images.decode import FORMATS
from facenet_jax.runtime.files import BUCKETS


class FolderSource(ListedFaces):
    """The images of a folder with one folder per identity.

    Identities and images are in the order of their names' bytes, whatever the file system's. Links to folders and files
    are followed, hidden ones are passed over. Identity folders without images do not count as identities. One that
    cannot be read has one image, whose place is the folder itself and which cannot be decoded: so it is counted and
    named among the bad files.

    Args:
      root: the folder.
      singles: whether it is allowed that no identity has two images.

    Attributes:
      root: the folder.
      index: the identities, named as their folders.
      digest: a fingerprint of all names, the same at another place: a resumed run compares it.
      passed_over: what was, by suffix or reason; what systems leave behind among it.
      ignored: how many entries were passed over because they are not images (or lie too high or too deep).
      without_images: the folders that hold no image, in their order.

    Raises:
      InputError: the folder is missing, cannot be read, is not a folder, has no images in identity folders, none of
        these can be read, no identity has two, or two have names that differ in their bytes only.
    """

    kind = "folder"

    def __init__(self, root: str | os.PathLike[str], *, singles: bool = False) -> None:
        if os.fspath(root).startswith((BUCKETS, BUCKETS.replace("//", "/"))):
            raise InputError(
                f"The faces on {os.fspath(root)} cannot be read from the bucket itself: mount it (gcsfuse, or GKE's "
                "Cloud Storage FUSE), and give the folder there."
            )
        self.root = Path(root)
        try:
            exists = self.root.exists()
        except OSError as error:  # a name too long, a folder above it that may not be entered
            raise InputError(f"The data folder {self.root} cannot be read ({error.strerror}): check it.") from error
        if not exists:
            raise InputError(f"The data folder {self.root} does not exist: check the path.")
        if not self.root.is_dir():
            raise InputError(
                f"The data folder {self.root} is not a folder: "
                "give a folder that has one folder of images per identity."
            )
        names: list[str] = []
        counts = [0]
        lengths: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
        files: list[bytes] = []
        digest = hashlib.blake2b(digest_size=16)
        self.passed_over = passed_over = Counter[str]()
        self.without_images = without_images = list[str]()
        loose = unreadable = 0
        try:
            identities = list_entries(self.root, passed_over)
        except OSError as error:
            raise InputError(
                f"The folder {self.root} cannot be read ({error.strerror}): check its permissions."
            ) from error
        for identity in identities:
            if not is_folder(identity):
                is_loose = is_image_name(identity.name)
                loose += is_loose
                passed_over[TOO_HIGH if is_loose else kind_of(identity)] += 1
                continue
            images = []
            try:
                for entry in list_entries(identity.path, passed_over):
                    if is_image(entry):
                        images.append(os.fsencode(entry.name))
                    else:
                        passed_over[kind_of(entry)] += 1
            except OSError as error:
                if error.errno in MACHINE_ERRORS:
                    raise
                unreadable += 1
                images = [b""]
            if not images:
                without_images.append(identity.name)
                continue
            names.append(identity.name)
            counts.append(len(images))
            lengths.append(np.array([len(image) for image in images], np.int64))
            files.append(b"".join(images))
            digest.update(b"\0".join([os.fsencode(identity.name), *images]) + b"\0\0")
        if not names and loose:
            raise InputError(
                f"The {loose} images in {self.root} lie directly in it: move them into one folder per identity "
                f"({self.root}/<identity>/<image>)."
            )
        if not names:
            raise InputError(
                f"The data folder {self.root} has no folder with images in it"
                f"{f' (passed over: {in_words(passed_over)})' if passed_over else ''}: "
                f"give a folder that has one folder of images ({FORMATS}) per identity."
            )
        if unreadable == len(names):
            raise InputError(f"None of the {unreadable} folders in {self.root} can be read: check their permissions.")
        if max(counts) < 2 and not singles:
            raise InputError(
                f"None of the {len(names)} identities in {self.root} has two images, so there is no anchor with a "
                "positive: put all images of one person into one folder."
            )
        check_distinct(names, str(self.root))
        self.index = IdentityIndex(names, np.cumsum(counts, dtype=np.int64))
        self.digest = digest.hexdigest()
        self.ignored = ignored(passed_over)
        self.reader = FileReader(self.root)
        # All file names in one run of bytes: a string object each would cost several times as much, in every worker.
        self._files = b"".join(files)
        self._starts = np.cumsum(np.concatenate(lengths))

    def places(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """The images' paths within the folder, `<identity>/<image>`: see ListedFaces."""
        records = np.arange(start, self.index.records if stop is None else stop)
        for record, identity in zip(records.tolist(), self.index.identity_of(records).tolist(), strict=True):
            yield self._place(identity, record)

    def place(self, record: int) -> str:
        """One image's path within the folder; the loader asks for each by itself."""
        return self._place(int(self.index.identity_of(np.array(record))), record)

    def _place(self, identity: int, record: int) -> str:
        file = os.fsdecode(self._files[self._starts[record] : self._starts[record + 1]])
        return os.path.join(self.index.names[identity], file)
