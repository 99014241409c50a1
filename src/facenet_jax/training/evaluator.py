"""Evaluation of a run on identities that it never trains on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from numpy.typing import NDArray

from facenet_jax.data.loader import embedding_batches
from facenet_jax.errors import InputError
from facenet_jax.evaluation.holdout import HoldoutResult, holdout
from facenet_jax.mesh import over_batch, padded_batch_size
from facenet_jax.training.faces import Faces
from facenet_jax.training.step import make_embed

FARS = (1e-2, 1e-3)
# Decoded faces are kept between evaluations where they take no more than this.
_KEPT_BYTES = 2**29


class Evaluator:
    """Embeds the held-out faces and judges them by the hold-out protocol (section 4.1, VAL and FAR of section 4)."""

    def __init__(self, network: nn.Module, mesh: Mesh, config: ConfigDict, faces: Faces) -> None:
        self._embed = make_embed(network, mesh)
        self._mesh = mesh
        self._config = config
        self._faces = faces
        self._kept: list[tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.bool_]]] = []

    def __call__(self, params: Any) -> HoldoutResult:
        """VAL at FARS with these parameters; faces that cannot be decoded are left out.

        Raises:
          InputError: too few of them can be decoded.
        """
        embeddings, labels = [], []
        for records, images, valid in self._batches():
            on_devices = jax.device_put(images, over_batch(self._mesh))
            embeddings.append(np.asarray(self._embed(params, on_devices))[valid])
            labels.append(self._faces.held_out.index.identity_of(records[valid]))
        points = np.concatenate(embeddings)
        if not np.isfinite(points).all():
            raise InputError("the network's embeddings are not finite; begin again with a lower learning rate.")
        return holdout(points, np.concatenate(labels), FARS)

    def _batches(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.bool_]]]:
        if self._kept:
            yield from self._kept
            return
        config = self._config
        records = self._faces.held_out_records
        height, width = config.model.input_size
        keep = len(records) * height * width * 3 <= _KEPT_BYTES
        rows = padded_batch_size(min(config.eval.batch, len(records)), self._mesh, 0)
        kept = []
        for batch in embedding_batches(
            self._faces.held_out, records, (height, width), rows, workers=config.data.workers
        ):
            if keep:
                kept.append(batch)
            yield batch
        self._kept = kept
