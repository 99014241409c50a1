"""Finds held-out identities and faces that are also trained on."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from facenet_jax.curation.overlap import alike, same_contents
from facenet_jax.datasets.exclude import WithoutFaces
from facenet_jax.datasets.mixture import sources_of
from facenet_jax.datasets.names import comparable
from facenet_jax.datasets.prepared import PreparedSource
from facenet_jax.datasets.source import FaceSource

# Of more pairs (training x held-out faces) than this only the bytes are compared, not the looks: 10^10 took a core 4 s.
_MOST_PAIRS = 10**11


def shared_names(train: FaceSource, identities: NDArray[np.int64], held_out: FaceSource) -> int:
    """How many names of held-out identities are also names of training identities.

    Args:
      train: training faces.
      identities: int64, those of `train` that are trained on.
      held_out: faces to evaluate on, another source.
    """
    is_trained_on = np.isin(np.arange(len(train.index.names)), identities, assume_unique=True)
    held_out_names = set(map(comparable, held_out.index.names))
    names = zip(map(comparable, train.index.names), is_trained_on, strict=True)
    return len({name for name, learnt in names if learnt and name in held_out_names})


def shared_faces(
    train: FaceSource, identities: NDArray[np.int64], held_out: FaceSource, records: NDArray[np.int64]
) -> int:
    """How many held-out faces are pictures of training identities, by their bytes or looks.

    Counted where both are prepared datasets, whose digests are at hand; otherwise 0. Looks are compared only where the
    faces were cut alike.

    Args:
      train: training faces.
      identities: int64, those of `train` that are trained on.
      held_out: faces to measure on; it may be `train`.
      records: int64, those of `held_out` that are evaluated on.
    """
    gone = np.empty(0, np.int64)
    if isinstance(train, WithoutFaces):
        gone = train.gone
        train = train.source
    if isinstance(held_out, WithoutFaces):
        records = held_out.original(records)
        held_out = held_out.source
    shared = np.zeros(len(records), bool)
    for learnt, first_learnt in _prepared(train):
        for evaluated, first_evaluated in _prepared(held_out):
            here = np.flatnonzero((records >= first_evaluated) & (records < first_evaluated + evaluated.index.records))
            rows = records[here] - first_evaluated
            found = [same_contents(learnt.contents, evaluated.contents[rows])]
            few = learnt.index.records * len(rows) <= _MOST_PAIRS
            if few and learnt.card.crop == evaluated.card.crop:
                found.append(alike(learnt.looks, evaluated.looks[rows]))
            for pairs in found:
                pictures = first_learnt + pairs.a
                trained_on = np.isin(train.index.identity_of(pictures), identities) & ~np.isin(pictures, gone)
                shared[here[pairs.b[trained_on]]] = True
    return int(np.count_nonzero(shared))


def _prepared(source: FaceSource) -> list[tuple[PreparedSource, int]]:
    """The prepared datasets of a source, each with the number of its first record there."""
    sources = sources_of(source)
    first = itertools.accumulate((one.index.records for one in sources), initial=0)
    return [(one, start) for one, start in zip(sources, first, strict=False) if isinstance(one, PreparedSource)]
