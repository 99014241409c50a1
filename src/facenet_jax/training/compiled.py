"""A config's training step, compiled from shapes."""

from __future__ import annotations

import flax.linen as nn
import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from facenet_jax.runtime.mesh import padded_batch_size
from facenet_jax.training.preflight import compile_or_refuse
from facenet_jax.training.state import TrainState
from facenet_jax.training.step import abstract_batch, make_train_step
from facenet_jax.triplets import Selection, Stage


def compile_step(
    config: ConfigDict,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    state: TrainState,
    chunk: int,
    listed: bool = False,
) -> jax.stages.Compiled:
    """Compiles the step; nothing is allocated.

    Args:
      config: the whole config.
      network, optimizer, mesh: what it says, made.
      state: shapes, types and shardings.
      chunk: faces that the network takes at once on a device; 0: all.
      listed: whether triplets come in a list with the batch, instead of being selected in it.

    Raises:
      InputError: it needs more memory than there is.
    """
    step = make_train_step(
        network,
        optimizer,
        mesh,
        margin=config.loss.margin,
        divide_by=config.loss.divide_by,
        chunk=chunk,
        selection=Selection(config.loss.positives, config.loss.negatives, config.loss.no_semi_hard),
        later_stages=tuple(
            Stage(from_step, Selection(positives, negatives, config.loss.no_semi_hard), margin)
            for from_step, positives, negatives, margin in config.loss.stages
        ),
        seed=config.seed,
        listed=listed,
        rematerialise=config.batch.rematerialise,
    )
    rows = padded_batch_size(config.batch.size, mesh, chunk)
    return compile_or_refuse(step, state, abstract_batch(rows, tuple(config.model.input_size), mesh))
