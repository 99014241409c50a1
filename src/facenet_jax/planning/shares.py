"""What parameters and AdaGrad's sums weigh on each device of a mesh: nothing is allocated, no device need be there."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.sharding import AbstractMesh, AxisType

from facenet_jax.config import default_config
from facenet_jax.errors import InputError
from facenet_jax.mesh import BATCH_AXES, DATA_AXIS, PARAMETER_AXIS
from facenet_jax.training.optimizer import make_optimizer
from facenet_jax.training.state import abstract_state


class Share(NamedTuple):
    """Bytes of some arrays.

    Attributes:
      whole: of one copy of all.
      replicated: on each device, of the arrays that every device has whole.
      divided: on each device, of the arrays of which it has a part.
    """

    whole: int
    replicated: int
    divided: int

    @property
    def on_each(self) -> int:
        """On each device, together."""
        return self.replicated + self.divided


def share(arrays: Any) -> Share:
    """What a device holds of a tree of arrays, or of their shapes with shardings."""
    whole = replicated = divided = 0
    for x in jax.tree.leaves(arrays):
        all_of_it = math.prod(x.shape) * x.dtype.itemsize
        own = math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
        whole += all_of_it
        replicated += own if own == all_of_it else 0
        divided += own if own < all_of_it else 0
    return Share(whole, replicated, divided)


def shares(network: nn.Module, input_size: tuple[int, int], data: int, fsdp: int) -> dict[str, Share]:
    """What a device of a mesh of data x fsdp holds of a network and its optimiser.

    Args:
      network: pixels -> embeddings.
      input_size: (rows, columns) in pixels.
      data, fsdp: as `mesh.make_mesh` takes them, each at least 1.

    Returns:
      Its share of the parameters and of AdaGrad's sums, by these words.
    """
    if min(data, fsdp) < 1:
        raise InputError(f"--mesh={DATA_AXIS}={data},{PARAMETER_AXIS}={fsdp}: give two numbers from 1 on.")
    mesh = AbstractMesh((data, fsdp), BATCH_AXES, axis_types=(AxisType.Auto, AxisType.Auto))
    state = abstract_state(network, input_size, make_optimizer(default_config()), mesh)
    return {"parameters": share(state.params), "AdaGrad's sums": share(state.opt_state)}


def format_shares(found: dict[str, Share], data: int, fsdp: int) -> str:
    """The shares as a table, in bytes."""
    total = Share(*(sum(column) for column in zip(*found.values(), strict=True)))
    heads = ("bytes", "one copy", "replicated", "divided", "on each device", "")
    lines: list[tuple[str, ...]] = [heads]
    for name, one in [*found.items(), ("total", total)]:
        numbers = (one.whole, one.replicated, one.divided, one.on_each)
        lines.append((name, *(f"{number:,}" for number in numbers), f"{one.on_each / 2**20:,.1f} MiB"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines)
    title = f"mesh of {data} x {fsdp} = {data * fsdp:,} devices ({DATA_AXIS}={data}, {PARAMETER_AXIS}={fsdp})"
    return "\n".join([title, *rows])
