"""Compares a disturbed run with an undisturbed one."""

from pathlib import Path

import jax
import numpy as np

from facenet_jax.runtime.checkpoints import Checkpoints
from facenet_jax.training.metrics import read_metrics


def params(workdir: Path, step: int) -> list[np.ndarray]:
    """The parameters of a checkpoint."""
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        return jax.tree.leaves(checkpoints.restore_params(step))
    finally:
        checkpoints.close()


def assert_same_run(workdir: Path, undisturbed: Path, steps: int) -> None:
    """Asserts that the losses of all steps and the parameters after the last are bit-identical."""
    found, wanted = (
        {row["step"]: row["loss"] for row in read_metrics(path) if "loss" in row and row["step"] <= steps}
        for path in (workdir, undisturbed)
    )
    assert list(found) == list(range(1, steps + 1))
    assert found == wanted
    for left, right in zip(params(workdir, steps), params(undisturbed, steps), strict=True):
        np.testing.assert_array_equal(left, right)
