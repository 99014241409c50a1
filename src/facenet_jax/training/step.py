"""One training step: embeddings, the loss over the whole batch, its gradient, the update.

The network may take the batch in chunks. Embeddings are worked out chunk by chunk and nothing is kept; the loss and its
gradient with respect to all embeddings follow at once; then each chunk runs again, with its rows of that gradient. The
sum over chunks is the gradient of the whole batch to rounding, in the memory of one chunk: how large a batch can be for
selection is independent of the memory of activations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from facenet_jax.errors import InputError, first_line
from facenet_jax.images.change import Changes
from facenet_jax.models.layers import PRODUCT
from facenet_jax.models.networks import apply_network
from facenet_jax.runtime.compiled import deterministic_options
from facenet_jax.runtime.mesh import BATCH_AXES, on_cpu, over_batch, padded_batch_size, platform_of, replicated
from facenet_jax.training.device_batch import DeviceBatch, abstract_batch
from facenet_jax.training.state import TrainState, shardings_of
from facenet_jax.triplets import (
    Selection,
    Stage,
    TripletStats,
    listed_loss_and_gradient,
    margin_at,
    of_each_member,
    staged_loss_and_gradient,
)

# Left to itself XLA on CPU orders the program for concurrency: it would work everything out again at once, and keep it.
_REMATERIALISE_ON_CPU: Any = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


# What a rematerialised network keeps: convolutions' and matrix products' results.
_KEPT = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.save_only_these_names(PRODUCT), jax.checkpoint_policies.dots_saveable
)


# Most parts in which a CPU takes the rows of a batch, and fewest rows of a part.
_MOST_PARTS, _FEWEST_ROWS = 8, 30


# Pixels, and the numbers by which they are changed: see DeviceBatch.
_Faces = tuple[jax.Array, jax.Array | None]


class StepMetrics(NamedTuple):
    """Scalars of a step, float32; `triplets` as in TripletStats."""

    loss: jax.Array
    gradient_norm: jax.Array
    triplets: TripletStats


def compile_step(
    config: ConfigDict,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    state: TrainState,
    listed: bool = False,
) -> jax.stages.Compiled:
    """Compiles a config's step from shapes; nothing is allocated.

    Args:
      config, network, optimizer, mesh, listed: see `make_train_step`.
      state: shapes, types and shardings.

    Raises:
      InputError: the compiler itself found that it does not fit, as on TPU.
    """
    rows = padded_batch_size(config.batch.size, mesh, config.batch.chunk)
    changed, old_size = bool(Changes.of(config.data)), config.model.embedding_size if config.compatible_with else 0
    batch = abstract_batch(rows, tuple(config.model.input_size), mesh, changed, old_size)
    try:
        return make_train_step(config, network, optimizer, mesh, listed).lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            f"a step does not fit the device ({first_line(error)}); set --config.batch.chunk, or make it "
            "smaller (the same gradient in less memory), or lower config.batch.size."
        ) from error


def make_train_step(
    config: ConfigDict,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    listed: bool = False,
) -> jax.stages.Wrapped:
    """The jitted step (state, batch) -> (state, metrics); the state is donated.

    Args:
      config: `loss`, `batch.chunk`, `batch.rematerialise`, `data.flip`, `data.augment`, `deterministic` and `seed` are
        read.
      network: pixels -> embeddings, without batch statistics (chunks would make them another function). Each member of
        an `Ensemble` has the loss of its own share.
      optimizer: applied to the gradient.
      mesh: over which the batch is divided.
      listed: the batch is triplets, one after another (offline selection alone), and nothing is selected.
    """
    loss, chunk, rematerialise = config.loss, config.batch.chunk, config.batch.rematerialise
    stages = tuple(
        Stage(from_step, Selection(positives, negatives, loss.no_semi_hard), margin)
        for from_step, positives, negatives, margin in ((0, loss.positives, loss.negatives, loss.margin), *loss.stages)
    )

    def triplets(
        embeddings: jax.Array, batch: DeviceBatch, step: jax.Array
    ) -> tuple[jax.Array, TripletStats, jax.Array]:
        if listed:
            margin = margin_at(stages, step)
            return listed_loss_and_gradient(embeddings, batch.valid, mesh=mesh, margin=margin, divide_by=loss.divide_by)
        return staged_loss_and_gradient(
            embeddings,
            batch.labels,
            batch.valid,
            mesh=mesh,
            stages=stages,
            step=step,
            divide_by=loss.divide_by,
            seed=config.seed,
            old=batch.old,
            weight=loss.compatible_weight,
        )

    changes = Changes.of(config.data)

    def embed(params: Any, faces: _Faces) -> jax.Array:
        images, numbers = faces
        return apply_network(network, params, images if numbers is None else changes.apply(images, numbers))

    if rematerialise:
        embed = jax.checkpoint(embed, policy=_KEPT)
    if mesh.size == 1 and on_cpu(mesh):
        embed = partial(embed_in_parts, embed)

    def step(state: TrainState, batch: DeviceBatch) -> tuple[TrainState, StepMetrics]:
        chex.assert_rank([batch.images, batch.labels, batch.valid], [4, 1, 1])
        chex.assert_equal_shape_prefix(jax.tree.leaves(batch), 1)
        select = of_each_member(partial(triplets, batch=batch, step=state.step), getattr(network, "members", 1))
        loss, stats, gradient = _loss_and_gradient(
            embed, select, mesh, chunk, state.params, (batch.images, batch.numbers)
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = StepMetrics(loss, optax.tree.norm(gradient), stats)
        after = TrainState(state.step + 1, params, opt_state)
        return jax.lax.with_sharding_constraint((after, metrics), (shardings_of(after, mesh), replicated(mesh)))

    options = deterministic_options(config.deterministic, platform_of(mesh))
    if rematerialise and on_cpu(mesh):
        options = _REMATERIALISE_ON_CPU
    return jax.jit(
        step,
        in_shardings=(None, over_batch(mesh)),  # the state comes, and leaves, as it is divided already
        donate_argnums=0,
        compiler_options=options,
    )


def _loss_and_gradient(
    embed: Callable[[Any, _Faces], jax.Array],
    triplets: Callable[[jax.Array], tuple[jax.Array, TripletStats, jax.Array]],
    mesh: Mesh,
    chunk: int,
    params: Any,
    faces: _Faces,
) -> tuple[jax.Array, TripletStats, Any]:
    """Loss, stats and the gradient with respect to the parameters, over the global batch."""
    rows_per_device = faces[0].shape[0] // mesh.size
    if not 0 < chunk < rows_per_device:
        embeddings, backward = jax.vjp(lambda params: embed(params, faces), params)
        loss, stats, embedding_gradient = triplets(embeddings)
        return loss, stats, backward(embedding_gradient)[0]

    def embed_own(params: Any, faces: _Faces) -> jax.Array:
        embeddings = jax.lax.map(partial(embed, params), _in_chunks(faces, chunk))
        return embeddings.reshape(-1, embeddings.shape[-1])

    def gradient_of_own(params: Any, faces: _Faces, embedding_gradient: jax.Array) -> Any:
        # Each device sums over its own chunks first, so that devices talk once a step and not once a chunk.
        own_params = jax.tree.map(lambda x: jax.lax.pcast(x, BATCH_AXES, to="varying"), params)

        def one_chunk(total: Any, inputs: tuple[_Faces, jax.Array]) -> tuple[Any, None]:
            chunk_faces, chunk_gradient = inputs
            _, backward = jax.vjp(lambda params: embed(params, chunk_faces), own_params)
            return jax.tree.map(jnp.add, total, backward(chunk_gradient)[0]), None

        zeros = jax.tree.map(jnp.zeros_like, own_params)
        total, _ = jax.lax.scan(one_chunk, zeros, _in_chunks((faces, embedding_gradient), chunk))
        return jax.lax.psum(total, BATCH_AXES)

    own, everywhere = P(BATCH_AXES), P()
    embeddings = jax.shard_map(embed_own, mesh=mesh, in_specs=(everywhere, own), out_specs=own)(params, faces)
    loss, stats, embedding_gradient = triplets(embeddings)
    gradient = jax.shard_map(gradient_of_own, mesh=mesh, in_specs=(everywhere, own, own), out_specs=everywhere)(
        params, faces, embedding_gradient
    )
    return loss, stats, gradient


def embed_in_parts(embed: Callable[[Any, Any], jax.Array], params: Any, faces: Any) -> jax.Array:
    """The same, a part of the rows after the other: what lies between layers stays nearer to a CPU's cores.

    On two cores 360 faces of NNS2 took 0.6 times as long in parts as at once, 240 of NNS1 0.65 times, 120 of NN4 0.8.
    Each part is compiled for itself, so there are few.
    """
    rows = len(jax.tree.leaves(faces)[0])
    parts = max(n for n in range(1, _MOST_PARTS + 1) if n == 1 or (rows % n == 0 and rows >= n * _FEWEST_ROWS))
    chunks = _in_chunks(faces, rows // parts)
    return jnp.concatenate([embed(params, jax.tree.map(itemgetter(part), chunks)) for part in range(parts)])


def _in_chunks(tree: Any, chunk: int) -> Any:
    """Each array [n, ...] -> [n / chunk, chunk, ...]."""
    return jax.tree.map(lambda rows: rows.reshape(-1, chunk, *rows.shape[1:]), tree)
