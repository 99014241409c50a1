"""Embeds many faces with a network's parameters: each process decodes its share, and all of them get all embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from numpy.typing import NDArray

from facenet_jax.datasets.source import FaceSource
from facenet_jax.errors import TrainingError
from facenet_jax.input.bad_files import BadFiles
from facenet_jax.input.loader import Batch, embedding_batches
from facenet_jax.models.networks import apply_network
from facenet_jax.runtime.compiled import announced, deterministic_options
from facenet_jax.runtime.mesh import over_batch, padded_batch_size, platform_of, replicated


def make_embed(network: nn.Module, mesh: Mesh, deterministic: bool = False) -> jax.stages.Wrapped:
    """The jitted network alone: (params, uint8 images [N, rows, columns, 3] over the mesh) -> float32 [N, d]."""
    embed = partial(apply_network, network)
    return jax.jit(
        embed,
        in_shardings=(None, over_batch(mesh)),
        out_shardings=replicated(mesh),
        compiler_options=deterministic_options(deterministic, platform_of(mesh)),
    )


class Embedding:
    """Embeds faces of a source in batches of `config.eval.batch`."""

    def __init__(self, config: ConfigDict, network: nn.Module, mesh: Mesh) -> None:
        """Prepares to compile.

        Args:
          config: of the run.
          network: pixels -> embeddings.
          mesh: what it runs on.
        """
        self._config = config
        self._mesh = mesh
        self._embed = announced(make_embed(network, mesh, config.deterministic), f"{config.model.name}, to embed with")
        self._everywhere: Callable[[jax.Array], jax.Array] = jax.jit(lambda x: x, out_shardings=replicated(mesh))

    def batches(self, source: FaceSource, records: NDArray[np.int64], bad_files: BadFiles | None) -> Iterator[Batch]:
        """This process's rows of the batches of these faces, in order.

        Args:
          source: where the faces come from.
          records: int64 [faces].
          bad_files: where those that cannot be decoded are listed, and found to be too many.
        """
        config = self._config
        for batch in embedding_batches(
            source,
            records,
            tuple(config.model.input_size),
            padded_batch_size(min(config.eval.batch, len(records)), self._mesh, 0),
            workers=config.data.workers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        ):
            if bad_files is not None:
                bad_files.update(batch)
            yield batch

    def __call__(
        self, params: Any, batches: Iterable[Batch], faces: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Embeds `faces` faces, in the order of the batches.

        Args:
          params: of the network.
          batches: this process's rows of each; together they hold the faces, and rows that pad after them.
          faces: how many there are in all.

        Returns:
          float32 [faces, d], and bool [faces]: False where a face could not be decoded, whose embedding says nothing.

        Raises:
          TrainingError: an embedding is not finite.
        """
        rows = over_batch(self._mesh)
        points, valid = [], []
        for batch in batches:
            images, whole = (
                jax.make_array_from_process_local_data(rows, np.asarray(part)) for part in (batch.images, batch.valid)
            )
            points.append(np.asarray(self._embed(params, images)))
            valid.append(np.asarray(self._everywhere(whole)))
        embeddings, decoded = np.concatenate(points)[:faces], np.concatenate(valid)[:faces]
        if not np.isfinite(embeddings[decoded]).all():
            raise TrainingError("the network's embeddings are not finite; begin again with a lower learning rate.")
        return embeddings, decoded
