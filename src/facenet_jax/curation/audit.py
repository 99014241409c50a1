"""Audits a dataset: finds labels that are probably wrong, and faces to leave out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.curation.label_errors import (
    Merged,
    Nearness,
    Split,
    merged_identities,
    nearness,
    pairs_within,
    split_identities,
    wrong_labels,
)
from facenet_jax.datasets.open import open_dataset
from facenet_jax.datasets.prepared import PreparedSource
from facenet_jax.datasets.source import StoredFaces
from facenet_jax.embedders.base import Embedder, EmbeddingTable
from facenet_jax.embedders.engine import Images, embed_images
from facenet_jax.embedders.labelled_images import only, stored_images
from facenet_jax.images.crop import Crop
from facenet_jax.images.cut import FaceCutter
from facenet_jax.images.decode import BadFace
from facenet_jax.images.digests import content_digest
from facenet_jax.prepare.duplicates import find_copies
from facenet_jax.runtime.cores import usable_cores
from facenet_jax.runtime.progress import Progress, Tally

# Chosen on CelebA with SFace (benchmarks/audit.py): hardly any right label has this suspicion or more.
EXCLUDE_FROM = 0.55
# Faces within this share of the typical distance between faces of an identity are nearly the same picture.
_NEAR_COPY = 0.1


@dataclass(frozen=True, eq=False)
class Findings:
    """The findings of an audit. Faces are numbers from 0, in the order of `files`.

    Attributes:
      dataset, embedder: their names.
      images: the images of the dataset.
      files: the place in the dataset of each face that could be judged.
      names: of identities.
      identity: int64 [n], ascending.
      near: how near the faces lie to their own and other identities.
      wrong: int64, probably wrong labels, the surest first.
      merged: identities of probably two people.
      split: pairs of identities of probably one person.
      copies: int64 [copies, 2], a face and an earlier one with the same bytes.
      near_copies: int64 [pairs, 2], faces that are nearly the same, with other bytes.
      distances: float32 [pairs], of the near copies.
      excluded: bool [n], whether the list of faces to leave out has each.
      bad: (file, reason) of each that could not be judged.
    """

    dataset: str
    embedder: str
    images: Images
    files: Sequence[str]
    names: Sequence[str]
    identity: NDArray[np.int64]
    near: Nearness
    wrong: NDArray[np.int64]
    merged: list[Merged]
    split: list[Split]
    copies: NDArray[np.int64]
    near_copies: NDArray[np.int64]
    distances: NDArray[np.float32]
    excluded: NDArray[np.bool_]
    bad: tuple[tuple[str, str], ...]

    def name(self, face: int) -> str:
        """The name of the identity that a face is labelled with."""
        return self.names[int(self.identity[face])]


def audit(
    dataset: Path, embedder: Embedder | EmbeddingTable, crop: Crop, keep: Path | None, progress: Progress
) -> Findings:
    """Audits a folder `<identity>/<image>` or a prepared dataset.

    Args:
      dataset: where it is.
      embedder: compares the faces.
      crop: how faces are cut first.
      keep: a folder where embeddings are kept as they are made.
      progress: where to report progress.

    Raises:
      InputError: as for the dataset and the embedder, or nothing can be judged.
    """
    source = open_dataset(dataset, singles=True)
    files = tuple(source.places())
    images = stored_images(source, files)
    embedded = embed_images(embedder, images, FaceCutter(crop), keep, progress)
    embedded.check_any()
    kept, points = embedded.photo, embedded.points
    identity = source.index.identity_of(kept)
    progress.line("comparing")
    near = nearness(points, identity)
    wrong = wrong_labels(near, identity)
    copies = _copies(source, images, kept, identity, progress)
    pairs, distances = pairs_within(points, _NEAR_COPY * near.typical_own)
    # Faces with the same bytes are copies, not near copies.
    file = first_of_file(len(kept), copies)
    others = file[pairs[:, 0]] != file[pairs[:, 1]]
    return Findings(
        str(dataset),
        embedder.name,
        only(images, kept.tolist()),
        [files[i] for i in kept.tolist()],
        source.index.names,
        identity,
        near,
        wrong,
        merged_identities(points, identity, near),
        split_identities(points, identity, near),
        copies,
        pairs[others],
        distances[others],
        to_leave_out(wrong, copies, near.suspicion),
        embedded.rejected,
    )


def _copies(
    source: StoredFaces,
    images: Images,
    kept: NDArray[np.int64],
    identity: NDArray[np.int64],
    progress: Progress,
) -> NDArray[np.int64]:
    """Pairs (face, earlier face) with the same bytes, int64 [copies, 2]."""
    if isinstance(source, PreparedSource):
        contents = source.contents[kept]
    else:
        contents = np.empty((len(kept), 16), np.uint8)
        tally = Tally(progress, "reading", len(kept))

        def digest(face: int) -> bytes:
            try:
                return content_digest(images.read(int(kept[face])))
            except BadFace:  # removed since it was embedded: it matches nothing
                return content_digest(b"unreadable %d" % face)

        with ThreadPoolExecutor(usable_cores()) as pool:
            for face, found in enumerate(pool.map(digest, range(len(kept)))):
                contents[face] = np.frombuffer(found, np.uint8)
                tally.update(face + 1)
    offsets = np.searchsorted(identity, np.arange(int(identity[-1]) + 2))
    copies = find_copies(contents, offsets)
    return np.stack([copies.records, copies.originals], axis=1)


def first_of_file(faces: int, copies: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each face the first one with its bytes, which may be itself: int64 [faces].

    Args:
      faces: how many there are.
      copies: int64 [copies, 2], a face and an earlier one with its bytes, each face once.
    """
    first = np.arange(faces)
    first[copies[:, 0]] = copies[:, 1]
    while not np.array_equal(further := first[first], first):
        first = further
    return first


def to_leave_out(
    wrong: NDArray[np.int64], copies: NDArray[np.int64], suspicion: NDArray[np.floating[Any]]
) -> NDArray[np.bool_]:
    """The faces to leave out, bool [faces]: sure wrong labels, and of equal files all but the least suspicious.

    Args:
      wrong: faces whose labels are probably wrong.
      copies: as `first_of_file` takes them.
      suspicion: [faces], NaN where nothing can be said.
    """
    out = np.zeros(len(suspicion), bool)
    out[wrong[suspicion[wrong] >= EXCLUDE_FROM]] = True
    first = first_of_file(len(suspicion), copies)
    order = np.lexsort((np.nan_to_num(suspicion, nan=np.inf), first))
    order = order[~out[order]]
    out[order[1:][first[order[1:]] == first[order[:-1]]]] = True
    return out
