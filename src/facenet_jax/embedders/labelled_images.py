"""Images with the identity of each: of a folder, of a prepared dataset, or by their paths."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.open import open_dataset
from facenet_jax.datasets.source import ListedFaces, StoredFaces
from facenet_jax.datasets.walk import stored_path
from facenet_jax.embedders.engine import Images
from facenet_jax.errors import InputError
from facenet_jax.runtime.files import files_digest


@dataclass(frozen=True)
class LabelledImages:
    """Faces to measure on: a folder `<identity>/<image>`, or a prepared dataset.

    Attributes:
      images: all of them.
      labels: the identity's name of each.
      root: the folder.
      passed_over: what else lies in it, by suffix or reason.
      without_images: people's folders without an image.
    """

    images: Images
    labels: NDArray[np.str_]
    root: Path
    passed_over: Mapping[str, int] = field(default_factory=dict)
    without_images: Sequence[str] = ()


def open_labelled(path: Path, singles: bool = False) -> LabelledImages:
    """Lists the faces of a folder, prepared or not; arguments and errors as for `open_dataset`."""
    source = open_dataset(path, singles=singles)
    records = np.arange(source.index.records, dtype=np.int64)
    labels = np.array(list(source.index.names))[source.index.identity_of(records)]
    keys = [f"{label}/{Path(place).name}" for label, place in zip(labels, source.places(), strict=True)]
    listed = source if isinstance(source, ListedFaces) else None
    return LabelledImages(
        stored_images(source, keys),
        labels,
        path,
        listed.passed_over if listed else {},
        listed.without_images if listed else (),
    )


def stored_images(source: StoredFaces, keys: Sequence[str]) -> Images:
    """The images of a dataset, each with a key; an image that is replaced under its name is another one."""
    return Images(tuple(keys), source.read, source.files_digest())


def listed_images(root: Path, keys: Sequence[str]) -> Images:
    """Images by their paths within a folder.

    Raises:
      InputError: one is missing.
    """
    files = [Path(stored_path(root, key)) for key in keys]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"{len(missing):,} of the {len(files):,} images that the pairs name are missing, the first {missing[0]}; "
            "give the folder that holds them all."
        )
    return Images(tuple(keys), lambda number: files[number].read_bytes(), files_digest(root, files))


def without(folder: LabelledImages, names: set[str]) -> LabelledImages:
    """The faces of all other identities."""
    kept = np.flatnonzero(~np.isin(folder.labels, sorted(names)))
    if not len(kept):
        raise InputError(
            f"Every identity of {folder.root} was trained on, and nothing is left to measure; give other people, or "
            "--keep-shared."
        )
    return LabelledImages(only(folder.images, kept.tolist()), folder.labels[kept], folder.root)


def only(images: Images, numbers: Sequence[int]) -> Images:
    """Some of the images, in the order of these numbers; the fingerprint says which, so that kept embeddings fit."""
    chosen = hashlib.blake2b(np.array(numbers, np.int64).tobytes(), digest_size=16).hexdigest()
    keys = tuple(images.keys[number] for number in numbers)
    return Images(keys, lambda place: images.read(numbers[place]), f"{images.digest}|{chosen}")
