"""The losses and parameters of a run, and the comparison of a disturbed run with an undisturbed one."""

from contextlib import closing
from pathlib import Path

import jax
import numpy as np

from facenet_jax.runtime.checkpoints import Checkpoints
from facenet_jax.training.metrics import read_metrics


def params_at(workdir: Path, step: int):
    """The parameters of a checkpoint."""
    with closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        return checkpoints.restore_params(step)


def losses(workdir: Path) -> list[tuple[int, float]]:
    """(step, loss) of each row of metrics with a loss."""
    return [(row["step"], row["loss"]) for row in read_metrics(workdir) if "loss" in row]


def assert_same_run(workdir: Path, undisturbed: Path, steps: int) -> None:
    """Asserts that the losses of all steps and the parameters after the last are bit-identical."""
    found, wanted = ([row for row in losses(path) if row[0] <= steps] for path in (workdir, undisturbed))
    assert [step for step, _ in found] == list(range(1, steps + 1))
    assert found == wanted
    jax.tree.map(np.testing.assert_array_equal, params_at(workdir, steps), params_at(undisturbed, steps))
