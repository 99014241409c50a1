"""The spread shows whether a run trains: curves of runs that trained, and of runs that collapsed."""

import pytest

from facenet_jax.config import load_config
from facenet_jax.training.health import collapse_words, has_collapsed

# NNS2 with response normalisation, then with standardised kernels; NNS1 at a third of the rate at which it collapsed.
TRAINED = [
    [0.0207, 0.0199, 0.0211, 0.0274, 0.0431, 0.11, 0.35, 0.61],
    [0.243, 0.206, 0.498, 0.435, 0.347, 0.62, 0.85, 0.91],
    [0.165, 0.365, 0.355, 0.385, 0.448, 0.678, 0.627, 0.583],
]
COLLAPSED = [
    [0.165, 0.223, 0.264, 0.156, 0.204, 0.031, 0.011],
    [0.0207, 0.0231, 0.0225, 0.0187, 0.0021],
    [0.0, 0.0],
]
ALONE_HARDEST = ["--config.offline.mode=alone", "--config.loss.negatives=hardest"]
VALUES = {"spread": 0.01, "mean_ap": 0.01, "mean_an": 0.01, "loss": 0.2}


def first_warning(curve):
    most = 0.0
    for place, spread in enumerate(curve):
        if has_collapsed(spread, most):
            return place, most
        most = max(most, spread)
    return None


@pytest.mark.parametrize("curve", TRAINED)
def test_a_run_that_trains_gets_no_warning(curve):
    assert first_warning(curve) is None


@pytest.mark.parametrize(("curve", "place"), list(zip(COLLAPSED, (6, 4, 0), strict=True)))
def test_a_collapse_is_reported_with_a_remedy(curve, place):
    warning = first_warning(curve)
    assert warning is not None
    assert warning[0] == place
    words = collapse_words(60, VALUES | {"spread": curve[place]}, warning[1], load_config("nns2", []))
    assert f"from {warning[1]:.1e} to {curve[place]:.1e}" in words


@pytest.mark.parametrize(
    ("step", "overrides", "said", "unsaid"),
    [
        (60, ["--config.loss.negatives=hardest"], "loss.negatives=semi_hard", "learning_rate"),
        (60, ['--config.loss.stages=((60, "all", "hardest", 0.2),)'], "model.norm=weight", "loss.negatives=semi_hard"),
        (61, ['--config.loss.stages=((60, "all", "hardest", 0.2),)'], "loss.negatives=semi_hard", "model.norm"),
        (60, ["--config.model.norm=weight"], "initial_accumulator", "model.norm"),
        (60, ["--config.model.norm=weight", "--config.optimizer.name=adam"], "learning_rate", "initial_accumulator"),
        (60, ["--config.model.norm=weight"], "loss.negatives=random_semi_hard", "model.norm"),
        (60, ["--config.loss.negatives=random_semi_hard"], "learning_rate", "semi_hard"),
        (51, ["--config.offline.every=50", "--config.offline.mode=alone"], "config.offline.mode=mixed", "negatives"),
        (51, ["--config.offline.every=50", *ALONE_HARDEST], "a larger config.offline.every", "negatives"),
        (50, ["--config.offline.every=50", "--config.offline.mode=alone"], "loss.negatives=random", "offline"),
        (51, ["--config.offline.every=50", "--config.offline.mode=mixed"], "loss.negatives=random", "offline"),
        (51, ["--config.offline.mode=alone"], "loss.negatives=random", "offline"),
    ],
)
def test_the_remedy_depends_on_the_config(step, overrides, said, unsaid):
    words = collapse_words(step, VALUES, 0.5, load_config("nns2", overrides))
    remedy = words.split("begin again with")[1]
    assert said in remedy
    assert unsaid not in remedy
