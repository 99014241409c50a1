"""An old network's points of the faces that are trained on, with which the new one's are to be comparable."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from facenet_jax.embedders import FileOfEmbeddings, open_embedder
from facenet_jax.embedders.engine import Images, embed_images
from facenet_jax.embedders.table import SUFFIXES
from facenet_jax.errors import InputError
from facenet_jax.images.cut import FaceCutter
from facenet_jax.runtime.progress import Progress
from facenet_jax.training.training_faces import TrainingFaces

# Where the points are kept, within a run's working directory.
FOLDER = "compatible_with"


class OldPoints:
    """Opens `config.compatible_with`; `embed` then has it embed every face that is trained on, as it is stored, once.

    Attributes:
      name: of the old embedder.
      digest: its fingerprint, which run.json keeps: with an index that it enrolled the new network may be used. Of a
        file of embeddings it is that of the embedder that made it, where the file says so.
      given: the fingerprint of the embedder or file as it was given, in which all processes of a job agree.
    """

    def __init__(self, config: ConfigDict) -> None:
        """Opens it.

        Raises:
          InputError: there is no such embedder, or it cannot embed in a job of several processes.
        """
        self._spec, self._size = config.compatible_with, int(config.model.embedding_size)
        if jax.process_count() > 1 and not self._spec.endswith(SUFFIXES):
            raise InputError(
                f"config.compatible_with={self._spec} cannot embed within a job of several processes: give a file of "
                "its embeddings, named identity/image (facenet-jax embed FACES -o FILE.npz --crop none makes one)."
            )
        self._embedder = open_embedder(self._spec)
        self.name, self.given = self._embedder.name, self._embedder.digest
        made_by = self._embedder.made_by if isinstance(self._embedder, FileOfEmbeddings) else None
        self.digest = made_by or self.given
        self._records, self._points = np.empty(0, np.int64), np.empty((0, self._size), np.float32)

    def embed(self, faces: TrainingFaces, workdir: Path, progress: Progress) -> None:
        """Embeds the faces; what is done is kept in the working directory, part by part, and taken up again.

        Raises:
          InputError: as for the embedder, or its points are of another size than the new network's.
        """
        source = faces.train
        records = source.index.records_of(faces.train_identities)
        size = (1, 1) if isinstance(self._embedder, FileOfEmbeddings) else self._embedder.size
        places = list(source.places())
        names = np.array(list(source.index.names))[source.index.identity_of(records)]
        keys = [f"{name}/{Path(places[record]).name}" for name, record in zip(names, records.tolist(), strict=True)]
        images = Images(keys, lambda number: source.load(int(records[number]), size), faces.digest)
        found = embed_images(self._embedder, images, FaceCutter("none"), workdir / FOLDER, progress)
        if found.points.shape[1] != self._size:
            raise InputError(
                f"config.compatible_with={self._spec} gives points of {found.points.shape[1]} coordinates; points of "
                f"{self._size} cannot be compared with them: give --config.model.embedding_size the same."
            )
        del self._embedder  # and what it holds of the devices
        # A face that could not be read has none, and is not trained on either.
        self._points = np.full((len(records), self._size), np.nan, np.float32)
        self._points[found.photo] = found.points
        self._records = records

    def of(self, records: NDArray[np.int64]) -> NDArray[np.float32]:
        """The points of some faces, float32 [rows, d]; NaN for those that have none, as rows that only pad."""
        rows = np.searchsorted(self._records, records).clip(max=len(self._records) - 1)
        known = self._records[rows] == records
        return np.where(known[:, None], self._points[rows], np.float32(np.nan))
