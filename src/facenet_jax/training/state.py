"""The state that a training step carries to the next."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from facenet_jax.errors import InputError
from facenet_jax.runtime.mesh import divided_axis, over_parameters
from facenet_jax.training.optimizer import Averaged


class TrainState(NamedTuple):
    """The state of a run that a checkpoint holds.

    Attributes:
      step: int32 scalar, the number of steps taken, which is also the number of the next batch of the plan.
      params: the network's parameters, float32.
      opt_state: the optimiser's.
    """

    step: jax.Array
    params: Any
    opt_state: optax.OptState

    @property
    def result(self) -> Any:
        """The parameters that a run is evaluated with: their average where one is kept, or themselves."""
        return self.opt_state.average if isinstance(self.opt_state, Averaged) else self.params

    def with_params(self, params: Any) -> TrainState:
        """The same with other parameters, which an average begins at too."""
        opt_state = self.opt_state
        if isinstance(opt_state, Averaged):
            opt_state = opt_state._replace(average=jax.tree.map(jnp.copy, params))  # both are donated to the step
        return self._replace(params=params, opt_state=opt_state)


def make_initial_state(
    network: nn.Module, input_size: tuple[int, int], optimizer: optax.GradientTransformation, seed: jax.Array
) -> TrainState:
    """A state before the first step; a pure function of the seed, to be jitted so that it is created sharded.

    Args:
      network: pixels [N, rows, columns, 3] -> embeddings.
      input_size: rows and columns.
      optimizer: whose state is made.
      seed: integer scalar.

    Raises:
      InputError: the network keeps more than parameters.
    """
    pixels = jnp.zeros((1, *input_size, 3), jnp.float32)
    variables = network.init(jax.random.key(seed), pixels)
    if set(variables) - {"params"}:
        raise InputError(
            f"the network keeps {', '.join(sorted(set(variables) - {'params'}))}: with statistics of the batch its "
            "gradient in pieces of batch.chunk faces would be that of another function, each piece having its own; "
            "take a network without them, such as one with response normalisation or standardised kernels."
        )
    params = variables["params"]
    return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))


def create_state(
    network: nn.Module, input_size: tuple[int, int], optimizer: optax.GradientTransformation, mesh: Mesh, seed: int
) -> TrainState:
    """The initial state on the mesh."""
    make = partial(make_initial_state, network, input_size, optimizer)
    # It runs once, so it is compiled without optimisation: a third of the time for a program of many small draws.
    options = {"xla_backend_optimization_level": 0}
    shapes = jax.eval_shape(make, jax.ShapeDtypeStruct((), jnp.int32))
    state: TrainState = jax.jit(make, out_shardings=shardings_of(shapes, mesh), compiler_options=options)(seed)
    return state


def shardings_of(tree: Any, mesh: Mesh) -> Any:
    """How arrays of a state, or their shapes, are divided over a mesh."""
    return jax.tree.map(lambda x: over_parameters(x.shape, mesh), tree)


def abstract_state(
    network: nn.Module, input_size: tuple[int, int], optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Shapes, types and shardings of the state, with nothing allocated."""

    make = partial(make_initial_state, network, input_size, optimizer)
    shapes = jax.eval_shape(make, jax.ShapeDtypeStruct((), jnp.int32))
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        shardings_of(shapes, mesh),
    )


def bytes_of_state(
    network: nn.Module, input_size: tuple[int, int], optimizer: optax.GradientTransformation, fsdp: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Bytes of the parameters, and of what the optimiser keeps of each: of one whole copy, and on each device.

    Args:
      network, input_size, optimizer: see `make_initial_state`; nothing is allocated.
      fsdp: devices that share one copy.
    """
    make = partial(make_initial_state, network, input_size, optimizer)
    shapes = jax.eval_shape(make, jax.ShapeDtypeStruct((), jnp.int32))

    def both(tree: Any) -> tuple[int, int]:
        whole = [
            (math.prod(leaf.shape) * leaf.dtype.itemsize, leaf.shape) for leaf in jax.tree.leaves(tree) if leaf.shape
        ]
        own = [size if divided_axis(shape, fsdp) is None else size // fsdp for size, shape in whole]
        return sum(size for size, _ in whole), sum(own)

    return both(shapes.params), both(shapes.opt_state)
