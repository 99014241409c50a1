"""Whom a run was trained on, so that they are not judged by it."""

from __future__ import annotations

from pathlib import Path

from facenet_jax.datasets.drawn.source import DrawnFaces
from facenet_jax.embedders import CheckpointEmbedder
from facenet_jax.errors import InputError
from facenet_jax.evaluation.request import AnyEmbedder
from facenet_jax.runtime.files import locate
from facenet_jax.saved_config import from_saved
from facenet_jax.training.faces import Faces, open_faces
from facenet_jax.training.run_directory import RUN_FILE, read_run

_CHANGED = "has changed since it was trained on, so that whom is not surely known"


def trained_on(embedder: AnyEmbedder) -> frozenset[str]:
    """The names of the identities that a run was trained on, and those that it started from (`config.init_from`).

    What cannot be told, as where a folder cannot be read any more, becomes a remark of the embedder's.

    Args:
      embedder: any; only of a run something is known. Its `training` is filled in.
    """
    if not isinstance(embedder, CheckpointEmbedder):
        return frozenset()
    names = _before_it(embedder)
    try:
        faces = open_faces(embedder.config)
    except InputError as error:
        embedder.remarks.append(f"whom it was trained on cannot be told: {error}")
        return names
    data = _data(faces)
    embedder.training = {
        "data": data,
        "faces": int(faces.train.index.counts[faces.train_identities].sum()),
        "identities": len(faces.train_identities),
    }
    if _has_changed(embedder.workdir, faces):
        embedder.remarks.append(f"{data} {_CHANGED}")
    return names | _names(faces)


def _before_it(embedder: CheckpointEmbedder) -> frozenset[str]:
    """The names of those that the runs were trained on from whose parameters a run started, one from the other."""
    names: frozenset[str] = frozenset()
    config, seen = embedder.config, {embedder.workdir.resolve()}
    unknown = "whom the run was trained on that it started from cannot be told"
    while config.init_from:
        workdir = locate(config.init_from)
        try:
            if workdir.resolve() in seen:
                raise InputError(f"{workdir} holds a run by now that started from this one.")
            seen.add(workdir.resolve())
            config = from_saved(read_run(workdir)["config"])
        except InputError as error:
            embedder.remarks.append(f"{unknown}: {error}")
            break
        except (AttributeError, KeyError, TypeError, ValueError):
            embedder.remarks.append(f"{unknown}: {workdir / RUN_FILE} is no config of a run.")
            break
        try:
            faces = open_faces(config)
        except InputError as error:  # its own parent may still be told
            embedder.remarks.append(f"{unknown}: {error}")
            continue
        if _has_changed(workdir, faces):
            embedder.remarks.append(f"{_data(faces)}, of {workdir} that it started from, {_CHANGED}")
        names |= _names(faces)
    return names


def _data(faces: Faces) -> str:
    return " and ".join(part.name for part in faces.parts)


def _has_changed(workdir: Path, faces: Faces) -> bool:
    """Whether a run began on other faces; False where nothing says on which."""
    try:
        before = read_run(workdir)["digests"]["train"]
    except (InputError, KeyError, TypeError, ValueError):
        return False
    return bool(before != faces.digest)


def _names(faces: Faces) -> frozenset[str]:
    """Of those trained on; drawn people are nobody, and their names are numbers."""
    if isinstance(faces.train, DrawnFaces):
        return frozenset()
    return frozenset(faces.train.index.names[i] for i in faces.train_identities)
