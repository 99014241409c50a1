"""Checks the health of a run: stops when a value is not finite, warns of a collapse."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from facenet_jax.errors import TrainingError
from facenet_jax.training.offline_selection import is_listed

# Spread is 1 - |mean embedding|^2, half of the mean squared distance between faces. By their normalisation networks
# begin between 0.02 and 0.25, so a fall says more than a level: runs that stalled fell to less than a tenth.
_COLLAPSED_SPREAD = 1e-3
_COLLAPSED_SHARE = 0.1


def check_finite(values: dict[str, float], step: int) -> None:
    """Raises TrainingError where a step's loss or gradient is not finite: no later checkpoint would be any good."""
    for name in ("loss", "gradient_norm"):
        if not np.isfinite(values[name]):
            raise TrainingError(
                f"the {name.replace('_', ' ')} is not finite at step {step}; the run stops here and keeps the "
                "checkpoints that it has: begin another run with a lower config.optimizer.learning_rate, from the best "
                "of them with config.init_from if there is one."
            )


def has_collapsed(spread: float, most: float) -> bool:
    """Whether embeddings have run together.

    Args:
      spread: of a step.
      most: the largest spread of a step before it.
    """
    return spread < max(_COLLAPSED_SPREAD, _COLLAPSED_SHARE * most)


def collapse_words(step: int, values: dict[str, float], most: float, config: ConfigDict) -> str:
    """What to say of the first such step, and what helped runs like it."""
    return (
        f"warning: at step {step:,} the embedding is collapsing: the spread of the embeddings fell from {most:.1e} to "
        f"{values['spread']:.1e}, every face comes to lie at almost the same point (mean D(a,p) "
        f"{values['mean_ap']:.1e}, mean D(a,n) {values['mean_an']:.1e}; loss {values['loss']:.4f}). "
        f"If it does not grow within some hundred steps, begin again with {_remedy(step, config)}."
    )


def _remedy(step: int, config: ConfigDict) -> str:
    """By what was seen in runs that collapsed (docs/experiments/starting.md)."""
    listed = is_listed(step - 1, config)
    negatives = "" if listed else _negatives(step, config)
    if negatives == "hardest":
        return "config.loss.negatives=semi_hard, and hardest as a later stage of config.loss.stages, if at all"
    slower = "a third of this config.optimizer.learning_rate and a longer config.optimizer.warmup_steps"
    if config.optimizer.name == "adagrad":
        slower += ", or a larger config.optimizer.initial_accumulator (the first step is the rate divided by its root)"
    if negatives == "semi_hard":
        slower += "; or config.loss.negatives=random_semi_hard"
    if listed:
        slower += "; or config.offline.mode=mixed; or a larger config.offline.every"
    return slower if config.model.norm == "weight" else f"config.model.norm=weight; or {slower}"


def _negatives(step: int, config: ConfigDict) -> str:
    """Which negatives a step, counted from 1, selected."""
    negatives = str(config.loss.negatives)
    for from_step, _, negatives_then, _ in config.loss.stages:
        if step > from_step:
            negatives = str(negatives_then)
    return negatives
