"""Opens a dataset of any form; the only module that distinguishes the forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from facenet_jax.datasets.drawn import DrawnFaces
from facenet_jax.datasets.folder import FolderSource
from facenet_jax.datasets.manifest import Manifest
from facenet_jax.datasets.mixture import MixedSource
from facenet_jax.datasets.prepared import JOB_FILE, PreparedSource, is_prepared, read_card
from facenet_jax.datasets.recordio import RecordIO
from facenet_jax.datasets.source import FaceSource, ListedFaces, StoredFaces
from facenet_jax.errors import InputError

DRAWN = "drawn"


def open_dataset(path: Path, *, singles: bool = False, listed: bool = False) -> StoredFaces:
    """A prepared dataset, or a folder of photographs.

    Args:
      path: of it.
      singles: whether it is allowed that no identity of a folder has two images.
      listed: whether all that `open_listed` opens is allowed.

    Raises:
      InputError: it is neither, or damaged, or not finished.
    """
    if is_prepared(path):
        return PreparedSource(path)
    if (path / JOB_FILE).is_file():
        raise InputError(
            f"{path} is not finished: run the same `facenet-jax prepare` again, or, after --shard, "
            f"`facenet-jax merge {path}`."
        )
    return open_listed(path) if listed else FolderSource(path, singles=singles)


def open_listed(path: Path) -> ListedFaces:
    """What can be prepared: a folder `<identity>/<image>`, a manifest (.csv, .parquet) or an InsightFace RecordIO set.

    Args:
      path: a folder; a manifest; a folder with train.rec and train.idx, or such a .rec file.

    Raises:
      InputError: there is none of these, or it is damaged.
    """
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
    return FolderSource(path, singles=True)


def crop_of(path: Path) -> str:
    """How the faces of a dataset were cut: a prepared one says it; `none` for all others, also those that are gone."""
    return read_card(path).crop if is_prepared(path) else "none"


def open_training(paths: Sequence[str], drawn: ConfigDict) -> FaceSource:
    """Faces to train on: one dataset, or several as one.

    Args:
      paths: of prepared datasets and folders; `drawn` stands for faces that are made up.
      drawn: which these are: identities, faces_per_identity, seed.

    Raises:
      InputError: as `open_dataset`.
    """
    sources = [DrawnFaces(**drawn) if path == DRAWN else open_dataset(Path(path)) for path in paths]
    return sources[0] if len(sources) == 1 else MixedSource(sources)
