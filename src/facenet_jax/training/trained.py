"""What a run has trained, opened again to be measured as the run itself measures it."""

from __future__ import annotations

from pathlib import Path

from facenet_jax.embedders.checkpoint import CheckpointEmbedder
from facenet_jax.evaluation.holdout import HoldoutResult
from facenet_jax.training.evaluator import Evaluator
from facenet_jax.training.faces import open_faces, open_held_out


def evaluate_trained(workdir: Path, data: str | None, step: int | None) -> tuple[int, str, HoldoutResult]:
    """Judges a run's checkpoint by the hold-out protocol.

    Args:
      workdir: of the run.
      data: a folder <identity>/<image>; None: what the run itself held out.
      step: of the checkpoint; None: the best, or the latest where none was measured.

    Returns:
      The step, the name of the faces, and the result.

    Raises:
      InputError: no such run, checkpoint or folder.
    """
    embedder = CheckpointEmbedder(workdir, step)
    limit = embedder.config.eval.max_faces_per_identity
    held_out = open_faces(embedder.config).held_out if data is None else open_held_out(data, limit)
    evaluator = Evaluator(embedder.network, embedder.mesh, embedder.config, held_out)
    result = evaluator(embedder.params)
    left_out = f", {evaluator.left_out:,} that cannot be decoded left out" if evaluator.left_out else ""
    return embedder.step, held_out.name + left_out, result
