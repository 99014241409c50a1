"""Evaluation of a run on identities that it never trains on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from facenet_jax.evaluation.holdout import HoldoutResult, holdout
from facenet_jax.input.bad_files import BadFiles
from facenet_jax.input.loader import Batch, embedding_batches
from facenet_jax.runtime.mesh import padded_batch_size
from facenet_jax.training.embedding import EmbedAll
from facenet_jax.training.faces import HeldOut

FARS = (1e-2, 1e-3)
# Decoded faces are kept between evaluations where they take no more than this.
_KEPT_BYTES = 2**29


class Evaluator:
    """Embeds held-out faces and judges them by the hold-out protocol (VAL and FAR of section 4).

    Attributes:
      left_out: faces that could not be decoded the last time.
    """

    def __init__(
        self, network: nn.Module, mesh: Mesh, config: ConfigDict, held_out: HeldOut, bad_files: BadFiles | None = None
    ) -> None:
        """Prepares; nothing is read yet.

        Args:
          network: pixels -> embeddings.
          mesh: what it runs on.
          config: of the run.
          held_out: the faces.
          bad_files: where those that cannot be decoded are listed, and found to be too many.
        """
        self._embed = EmbedAll(network, mesh)
        self._mesh = mesh
        self._config = config
        self._held_out = held_out
        self._bad_files = bad_files
        self._kept: list[Batch] = []
        self.left_out = 0

    def __call__(self, params: Any) -> HoldoutResult:
        """VAL at FARS with these parameters; faces that cannot be decoded are left out.

        Raises:
          InputError: too few of them can be decoded.
          TrainingError: the network's embeddings are not finite.
        """
        records = self._held_out.records
        points, decoded = self._embed(params, self._batches(), len(records))
        self.left_out = int(np.count_nonzero(~decoded))
        return holdout(points[decoded], self._held_out.source.index.identity_of(records[decoded]), FARS)

    def _batches(self) -> Iterator[Batch]:
        if self._kept:
            yield from self._kept
            return
        config, records = self._config, self._held_out.records
        height, width = config.model.input_size
        keep = len(records) * height * width * 3 <= _KEPT_BYTES
        rows = padded_batch_size(min(config.eval.batch, len(records)), self._mesh, 0)
        kept = []
        for batch in embedding_batches(
            self._held_out.source,
            records,
            (height, width),
            rows,
            workers=config.data.workers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        ):
            if self._bad_files is not None:
                self._bad_files.update(batch)
            if keep:
                kept.append(batch)
            yield batch
        self._kept = kept
