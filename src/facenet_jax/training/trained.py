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
from facenet_jax.training.faces import open_faces
from facenet_jax.training.run_directory import read_run


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
    saved = read_run(workdir)["config"]
    config = default_config()
    config.update_from_flattened_dict(
        {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in saved.items()
            if key in flatten(config)
        }
    )
    if data is not None:
        config.eval.path = data
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        if step is not None and step not in checkpoints.steps():
            there = ", ".join(str(s) for s in checkpoints.steps()) or "none"
            raise InputError(f"{workdir} has no checkpoint of step {step}; there are: {there}.")
        step = checkpoints.best_or_latest() if step is None else step
        params = checkpoints.restore_params(step)
    finally:
        checkpoints.close()
    mesh = make_mesh()
    network = models.build(
        config.model.name,
        embedding_size=config.model.embedding_size,
        dtype=config.model.dtype,
        five_by_five=config.model.five_by_five or None,
    )
    faces = open_faces(config)
    result = Evaluator(network, mesh, config, faces)(jax.device_put(params, replicated(mesh)))
    return step, faces.held_out_name, result
