"""What a run has trained, opened again to be measured as the run itself measures it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from facenet_jax.embedders import CheckpointEmbedder
from facenet_jax.embedders.engine import Images
from facenet_jax.errors import InputError
from facenet_jax.evaluation.request import Folder, Request, fingerprint, leave_out_known
from facenet_jax.training.faces import HeldOut, open_faces


def own_held_out(request: Request) -> Folder:
    """The faces that a run itself held out, without people that it or those it started from were trained on.

    Raises:
      InputError: there is not a single run, or nobody is left.
    """
    embedder = request.embedders[0]
    if len(request.embedders) != 1 or not isinstance(embedder, CheckpointEmbedder):
        raise InputError("--data is needed: only a single run has faces of its own that it held out.")
    size = embedder.size
    held_out = open_faces(embedder.config).held_out
    source, records = held_out.source, held_out.records

    def read(number: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(source.load(int(records[number]), size)).save(file, "PNG", compress_level=1)
        return file.getvalue()

    labels = np.array(source.index.names)[source.index.identity_of(records)]
    keys = tuple(f"{label}/{record}" for label, record in zip(labels, records, strict=True))
    return leave_out_known(request, Folder(Images(keys, read, _fingerprint(held_out)), labels, Path(held_out.name)))


def _fingerprint(held_out: HeldOut) -> str:
    """Of held-out faces: a folder's own digest is of names alone, so that size and time of its files are added."""
    # Faces that are drawn, or prepared, have no files of their own; their digest says all.
    files = [Path(held_out.source.describe(int(record))) for record in held_out.records]
    return f"{held_out.digest}|{fingerprint(Path(), files)}"
