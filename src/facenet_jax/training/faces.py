"""The faces that a config names: those to train on, and those held out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from facenet_jax.data.drawn import DrawnFaces
from facenet_jax.data.folder import FolderSource
from facenet_jax.data.index import split_holdout
from facenet_jax.data.source import FaceSource
from facenet_jax.errors import InputError

DRAWN = "drawn"
# Drawn people from this number on are held out, so that no number of training identities reaches them.
_FIRST_HELD_OUT = 1_000_000_000


@dataclass(frozen=True)
class Faces:
    """Training and held-out faces; no identity is in both, unless `eval.path` names a folder that shares some.

    Attributes:
      train: the source of training faces.
      train_identities: int64, the identities of `train` that are trained on.
      held_out: the source of held-out faces, which may be `train` itself.
      held_out_records: int64, the records of `held_out` that are judged.
      held_out_name: what they are, for titles.
      digest: a fingerprint of the training faces.
      held_out_digest: and of the held-out ones.
    """

    train: FaceSource
    train_identities: NDArray[np.int64]
    held_out: FaceSource
    held_out_records: NDArray[np.int64]
    held_out_name: str
    digest: str
    held_out_digest: str

    def describe(self) -> str:
        """Two lines for the screen."""
        counts = self.train.index.counts[self.train_identities]
        drawn = isinstance(self.train, DrawnFaces)
        kind = "drawn faces (made up by a program, of nobody)" if drawn else "faces"
        held_out = len(np.unique(self.held_out.index.identity_of(self.held_out_records)))
        return (
            f"training on     {int(counts.sum()):,} {kind} of {len(counts):,} identities, "
            f"{int(np.count_nonzero(counts >= 2)):,} of them with two or more\n"
            f"evaluating on   {len(self.held_out_records):,} faces of {held_out:,} identities never trained on "
            f"({self.held_out_name})"
        )


def open_faces(config: ConfigDict) -> Faces:
    """Opens what `data.path` and `eval.path` name.

    Raises:
      InputError: a folder is missing, empty, or holds too little; no identity is left to hold out.
    """
    train: FaceSource
    if config.data.path == DRAWN:
        drawn = config.data.drawn
        train = DrawnFaces(drawn.seed, drawn.identities, drawn.faces_per_identity)
    else:
        train = FolderSource(config.data.path)
    everybody = np.arange(len(train.index.names), dtype=np.int64)
    limit = config.eval.max_faces_per_identity
    if config.eval.path:
        held_out: FaceSource = FolderSource(config.eval.path)
        identities, name = np.arange(len(held_out.index.names), dtype=np.int64), config.eval.path
    elif isinstance(train, DrawnFaces):
        held_out = DrawnFaces(train.seed, config.eval.drawn_identities, limit, first=_FIRST_HELD_OUT)
        identities, name = np.arange(config.eval.drawn_identities, dtype=np.int64), "drawn people held out"
    else:
        held_out = train
        everybody, identities = split_holdout(train.index, config.eval.holdout)
        name = f"{config.eval.holdout:.0%} of {config.data.path}, held out"
        if not len(identities):
            raise InputError(
                f"{config.data.path} has too few identities with two faces to hold any out for evaluation; "
                "add people, or give another folder as config.eval.path."
            )
    records = _first_of_each(held_out, identities, limit)
    return Faces(train, everybody, held_out, records, name, train.digest, _digest(held_out, records))


def _first_of_each(source: FaceSource, identities: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Records of the identities with two faces or more, at most `limit` of each."""
    kept = identities[source.index.counts[identities] >= 2]
    counts = np.minimum(source.index.counts[kept], limit)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(source.index.offsets[kept], counts) + within


def _digest(source: FaceSource, records: NDArray[np.int64]) -> str:
    return hashlib.blake2b(source.digest.encode() + records.tobytes(), digest_size=16).hexdigest()
