"""The identities that a run was trained on, to be excluded from its evaluation, and the faces that it held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facenet_jax.config import from_saved
from facenet_jax.datasets.drawn import DrawnFaces
from facenet_jax.embedders import CheckpointEmbedder, network_of
from facenet_jax.embedders.engine import Images
from facenet_jax.embedders.labelled_images import LabelledImages
from facenet_jax.errors import InputError
from facenet_jax.evaluation.request import AnyEmbedder, Request, leave_out_known
from facenet_jax.runtime.files import files_digest, locate
from facenet_jax.training.run_directory import RUN_FILE, read_run
from facenet_jax.training.training_faces import HeldOutFaces, TrainingFaces, open_faces

_CHANGED = "has changed since it was trained on, so the identities are not known for certain"


def trained_on(embedder: AnyEmbedder) -> frozenset[str]:
    """The names of the identities that a run was trained on, and those that it started from (`config.init_from`).

    What cannot be determined, as where a folder cannot be read any more, becomes a remark of the embedder's.

    Args:
      embedder: any; only of a run something is known. Its `training` is filled in.
    """
    if not isinstance(embedder, CheckpointEmbedder):
        return frozenset()
    names = _names_before(embedder)
    try:
        faces = open_faces(embedder.config)
    except InputError as error:
        embedder.remarks.append(f"the identities that it was trained on cannot be determined: {error}")
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


def _names_before(embedder: CheckpointEmbedder) -> frozenset[str]:
    """The names of the identities of the runs that a run started from, one from the other."""
    names: frozenset[str] = frozenset()
    config, seen = embedder.config, {embedder.workdir.resolve()}
    unknown = "which identities were trained on by the run that it started from cannot be determined"
    while config.init_from:
        workdir = locate(config.init_from)
        try:
            if workdir.resolve() in seen:
                raise InputError(f"{workdir} now holds a run that started from this one.")
            seen.add(workdir.resolve())
            config = from_saved(read_run(workdir)["config"])
        except InputError as error:
            embedder.remarks.append(f"{unknown}: {error}")
            break
        except (AttributeError, KeyError, TypeError, ValueError):
            embedder.remarks.append(f"{unknown}: {workdir / RUN_FILE} is not the config of a run.")
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


def _data(faces: TrainingFaces) -> str:
    return " and ".join(part.name for part in faces.parts)


def _has_changed(workdir: Path, faces: TrainingFaces) -> bool:
    """Whether a run began on other faces; False where nothing says on which."""
    try:
        before = read_run(workdir)["digests"]["train"]
    except (InputError, KeyError, TypeError, ValueError):
        return False
    return bool(before != faces.digest)


def _names(faces: TrainingFaces) -> frozenset[str]:
    """Names of the training identities; drawn people are not real, and their names are numbers."""
    if isinstance(faces.train, DrawnFaces):
        return frozenset()
    return frozenset(faces.train.index.names[i] for i in faces.train_identities)


def own_held_out(request: Request) -> LabelledImages:
    """The faces that a run itself held out, without identities that it or those it started from were trained on.

    Raises:
      InputError: there is not a single run, or no identity is left.
    """
    embedder, *others = {id(one): one for one in map(network_of, request.embedders)}.values()
    if others or not isinstance(embedder, CheckpointEmbedder):
        raise InputError("--data is needed: only a single run has faces of its own that it held out.")
    size = embedder.size
    held_out = open_faces(embedder.config).held_out
    source, records = held_out.source, held_out.records

    def read(number: int) -> NDArray[np.uint8]:
        return source.load(int(records[number]), size)

    labels = np.array(source.index.names)[source.index.identity_of(records)]
    keys = tuple(f"{label}/{record}" for label, record in zip(labels, records, strict=True))
    return leave_out_known(
        request, LabelledImages(Images(keys, read, _fingerprint(held_out)), labels, Path(held_out.name))
    )


def _fingerprint(held_out: HeldOutFaces) -> str:
    """Of held-out faces: a folder's own digest is of names alone, so size and time of its files are added."""
    # Faces that are drawn, or prepared, have no files of their own; their digest says all.
    files = [Path(held_out.source.describe(int(record))) for record in held_out.records]
    return f"{held_out.digest}|{files_digest(Path(), files)}"
