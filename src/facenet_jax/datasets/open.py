"""A dataset of faces on disk, whichever of its two forms it has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from facenet_jax.datasets.card import JOB_FILE, is_prepared
from facenet_jax.datasets.folder import FolderSource
from facenet_jax.datasets.prepared import PreparedSource
from facenet_jax.errors import InputError


def open_dataset(path: Path, *, singles: bool = False) -> FolderSource | PreparedSource:
    """A prepared dataset, or a folder of photographs.

    Args:
      path: of it.
      singles: whether it will do that no identity of a folder has two images.

    Raises:
      InputError: it is neither, or damaged, or not finished.
    """
    if is_prepared(path):
        return PreparedSource(path)
    if (path / JOB_FILE).is_file():
        raise InputError(
            f"{path} is not finished: give the same `facenet-jax prepare` again, or, after --shard, "
            f"`facenet-jax merge {path}`."
        )
    return FolderSource(path, singles=singles)


def places(source: FolderSource | PreparedSource) -> Iterable[str]:
    """Where each face lies in what was given or prepared, `identity/image` in a folder: its name in lists of faces."""
    return source.places() if isinstance(source, FolderSource) else source.files
