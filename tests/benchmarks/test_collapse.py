"""The benchmark of the collapse: the trainer accepts its options, and its figure is drawn."""

import pytest

from benchmarks.collapse import ARMS, FIGURES, collapse_figure, overrides
from facenet_jax.config import load_config


@pytest.mark.parametrize("arm", ARMS)
def test_the_trainer_understands(arm):
    config = load_config("quickstart", overrides(arm, seed=1, steps=60))
    assert (config.seed, config.steps) == (1, 60)
    assert (config.loss.negatives == "hardest") == (arm == "hardest")
    assert [stage[:3] for stage in config.loss.stages] == ([(45, "all", "hardest")] if arm == "curriculum" else [])


def test_the_picture(tmp_path):
    rows = [{"step": step} | dict.fromkeys(FIGURES, 0.1 * step) for step in range(4)]
    collapse_figure({arm: [rows, rows] for arm in ARMS}, tmp_path / "collapse.png")
    assert (tmp_path / "collapse.png").stat().st_size > 5_000
