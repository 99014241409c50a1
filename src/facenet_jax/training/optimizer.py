"""AdaGrad as the paper uses it, and the schedule of its rate (section 3.3)."""

from __future__ import annotations

import optax
from ml_collections import ConfigDict


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """The rate at a step: risen from 0 over warmup_steps, constant, lowered linearly over the last finalise_steps.

    Args:
      config: the whole config; `steps` and `optimizer` are read.

    Returns:
      A function from the number of the step, from 0, to the rate.
    """
    rate = config.optimizer.learning_rate
    warmup, finalise = config.optimizer.warmup_steps, config.optimizer.finalise_steps
    return optax.join_schedules(
        [
            optax.linear_schedule(rate / max(warmup, 1), rate, max(warmup - 1, 1)),
            optax.constant_schedule(rate),
            optax.linear_schedule(rate, config.optimizer.final_learning_rate, max(finalise - 1, 1)),
        ],
        boundaries=[warmup, config.steps - finalise],
    )


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """AdaGrad (Duchi, Hazan, Singer 2011): a parameter's rate falls with the root of its summed squared gradients.

    The sum starts at `initial_accumulator`, and libraries do not agree where (TensorFlow: 0.1, PyTorch: 0). At 0 the
    first step moves every parameter by the whole rate, whatever its gradient, which from a random start at 0.05 undoes
    the initialisation; the larger the start, the longer the rate stays proportional to the gradient. This makes the
    gradient's scale matter, and so what the loss is divided by.
    """
    return optax.chain(
        optax.scale_by_rss(initial_accumulator_value=config.optimizer.initial_accumulator, eps=1e-10),
        optax.scale_by_learning_rate(learning_rate(config)),
    )
