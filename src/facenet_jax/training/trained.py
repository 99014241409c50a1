"""What a run has trained, opened again to be measured."""

from __future__ import annotations

from pathlib import Path

import jax

from facenet_jax import models
from facenet_jax.checkpoints import Checkpoints
from facenet_jax.config import default_config, flatten
from facenet_jax.errors import InputError
from facenet_jax.evaluation.holdout import HoldoutResult
from facenet_jax.mesh import make_mesh, replicated
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
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        if step is not None and step not in checkpoints.steps():
            there = ", ".join(str(s) for s in checkpoints.steps()) or "none"
            raise InputError(f"{workdir} has no checkpoint of step {step}; there are: {there}.")
        step = checkpoints.best_or_latest() if step is None else step
        saved, params = checkpoints.config(step), checkpoints.restore_params(step)
    finally:
        checkpoints.close()
    config, known = default_config(), flatten(default_config())
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items() if key in known}
    config.update_from_flattened_dict(values)
    limit = config.eval.max_faces_per_identity
    held_out = open_faces(config).held_out if data is None else open_held_out(data, limit)
    mesh = make_mesh()
    evaluator = Evaluator(models.from_config(config.model), mesh, config, held_out)
    result = evaluator(jax.device_put(params, replicated(mesh)))
    left_out = f", {evaluator.left_out:,} that cannot be decoded left out" if evaluator.left_out else ""
    return step, held_out.name + left_out, result
