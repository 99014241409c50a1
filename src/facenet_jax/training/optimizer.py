"""The optimiser: AdaGrad as in the paper, or Adam; the learning rate's schedule (section 3.3); averaged parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """The rate at a step: risen from 0 over warmup_steps, constant, lowered linearly over the last finalise_steps.

    Args:
      config: the whole config; `steps` and `optimizer` are read.

    Returns:
      A function from the number of the step, from 0, to the rate.
    """
    rate, final = config.optimizer.learning_rate, config.optimizer.final_learning_rate
    warmup, finalise = config.optimizer.warmup_steps, config.optimizer.finalise_steps
    # Only the parts there are: a constant rate gives the same compiled program whatever the number of steps.
    schedule = optax.constant_schedule(rate)
    if warmup:
        rise = optax.linear_schedule(rate / warmup, rate, max(warmup - 1, 1))
        schedule = optax.join_schedules([rise, schedule], [warmup])
    if finalise:
        first = rate - (rate - final) / finalise
        fall = optax.linear_schedule(first, final, max(finalise - 1, 1))
        schedule = optax.join_schedules([schedule, fall], [config.steps - finalise])
    return schedule


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """AdaGrad (Duchi, Hazan, Singer 2011): a parameter's rate falls with the root of its summed squared gradients.

    The sum starts at `initial_accumulator`, and libraries do not agree where (TensorFlow: 0.1, PyTorch: 0). At 0 the
    first step moves every parameter by the whole rate, whatever its gradient, which from a random start at 0.05 undoes
    the initialisation; the larger the start, the longer the rate stays proportional to the gradient. This makes the
    gradient's scale matter, and so what the loss is divided by.

    Or Adam (Kingma, Ba 2015), whose averages forget, so that neither the start nor the gradient's scale matters long.

    Where `weight_average` is not 0 either also keeps a running average of the parameters (`Averaged`).
    """
    scale = {
        "adagrad": optax.scale_by_rss(config.optimizer.initial_accumulator, eps=1e-10),
        "adam": optax.scale_by_adam(),
    }[config.optimizer.name]
    optimizer = optax.chain(scale, optax.scale_by_learning_rate(learning_rate(config)))
    decay = config.optimizer.weight_average
    return with_average(optimizer, decay) if decay else optimizer


class Averaged(NamedTuple):
    """The state of an optimiser that averages parameters.

    Attributes:
      inner: the optimiser's own.
      average: of the parameters, a tree like theirs.
      steps: int32 scalar, those that went into it.
    """

    inner: optax.OptState
    average: Any
    steps: jax.Array


def with_average(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """The same steps, and a running average of where they lead.

    At step t, from 0, the average keeps the share min(decay, (1 + t) / (10 + t)) of itself and takes the rest from the
    new parameters, as TensorFlow's ExponentialMovingAverage does with `num_updates`: so long as t is small it is of
    about the last ninth of the steps, and never mostly the random start; in the end of the last 1 / (1 - decay).
    """

    def init(params: Any) -> Averaged:
        return Averaged(optimizer.init(params), params, jnp.zeros((), jnp.int32))

    def update(gradient: Any, state: Averaged, params: Any = None) -> tuple[Any, Averaged]:
        updates, inner = optimizer.update(gradient, state.inner, params)
        kept = jnp.minimum(decay, (1 + state.steps) / (10 + state.steps))
        average = optax.incremental_update(optax.apply_updates(params, updates), state.average, 1 - kept)
        return updates, Averaged(inner, average, state.steps + 1)

    return optax.GradientTransformation(init, update)
