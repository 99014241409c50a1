"""Many faces through a network: each process decodes its share, and all of them get all embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from numpy.typing import NDArray

from facenet_jax.errors import TrainingError
from facenet_jax.input.loader import Batch
from facenet_jax.runtime.mesh import over_batch, replicated
from facenet_jax.training.step import make_embed


class EmbedAll:
    """Embeds batches of faces with a network's parameters."""

    def __init__(self, network: nn.Module, mesh: Mesh) -> None:
        """Prepares to compile.

        Args:
          network: pixels -> embeddings.
          mesh: what it runs on.
        """
        self._embed = make_embed(network, mesh)
        self._mesh = mesh
        self._everywhere: Callable[[jax.Array], jax.Array] = jax.jit(lambda x: x, out_shardings=replicated(mesh))

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
