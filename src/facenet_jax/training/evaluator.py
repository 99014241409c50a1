"""Evaluation of a run on identities that it never trains on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from facenet_jax.evaluation.holdout import HoldoutResult, holdout, resolved_fars
from facenet_jax.input.bad_files import BadFiles
from facenet_jax.input.loader import Batch
from facenet_jax.training.embedding import Embedding
from facenet_jax.training.training_faces import HeldOutFaces

FARS = (1e-2, 1e-3)
# Decoded faces are kept between evaluations where they take no more than this.
_KEPT_BYTES = 2**29


class Evaluator:
    """Embeds held-out faces and evaluates them by the hold-out protocol (VAL and FAR of section 4).

    Attributes:
      left_out: faces that could not be decoded the last time.
    """

    def __init__(
        self,
        config: ConfigDict,
        network: nn.Module,
        mesh: Mesh,
        held_out: HeldOutFaces,
        bad_files: BadFiles | None = None,
    ) -> None:
        """Prepares; nothing is read yet.

        Args:
          config: of the run.
          network: pixels -> embeddings.
          mesh: what it runs on.
          held_out: the faces.
          bad_files: where those that cannot be decoded are listed, and found to be too many.
        """
        self._config = config
        self._embed = Embedding(config, network, mesh)
        self._held_out = held_out
        self._bad_files = bad_files
        self._kept: list[Batch] = []
        self.left_out = 0

    def is_due(self, step: int) -> bool:
        """Whether held-out faces are evaluated at a step: before the first, every eval.every, and after the last."""
        every, last = self._config.eval.every, self._config.steps
        return step == 0 or step >= last or bool(every and step % every == 0)

    def __call__(self, params: Any) -> HoldoutResult:
        """VAL at FARS, or at what few faces resolve, with these parameters; faces that cannot be decoded are left out.

        Raises:
          InputError: too few of them can be decoded.
          TrainingError: the network's embeddings are not finite.
        """
        records = self._held_out.records
        points, decoded = self._embed(params, self._batches(), len(records))
        self.left_out = int(np.count_nonzero(~decoded))
        labels = self._held_out.source.index.identity_of(records[decoded])
        return holdout(points[decoded], labels, resolved_fars(labels, FARS))

    def _batches(self) -> Iterator[Batch]:
        if self._kept:
            yield from self._kept
            return
        source, records = self._held_out.source, self._held_out.records
        height, width = self._config.model.input_size
        keep = len(records) * height * width * 3 <= _KEPT_BYTES
        kept = []
        for batch in self._embed.batches(source, records, self._bad_files):
            if keep:
                kept.append(batch)
            yield batch
        self._kept = kept


def val_metrics(result: HoldoutResult) -> dict[str, Any]:
    """What an evaluation adds to the metrics: val_far_0.01, its standard error, and so on."""
    values: dict[str, Any] = {}
    for rate in result.rates:
        values[f"val_far_{rate.far:g}"] = rate.val
        values[f"val_far_{rate.far:g}_standard_error"] = rate.standard_error
    return values


def val_of(result: HoldoutResult) -> float | None:
    """VAL at the first FAR that the pairs resolve, by which the best checkpoint is chosen; None if there is none."""
    return next((rate.val for rate in result.rates if rate.val is not None), None)
