"""Devices as a mesh: one program, from a laptop (a mesh of one) to a pod."""

from __future__ import annotations

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from facenet_jax.errors import InputError

DATA_AXIS = "data"


def make_mesh(devices: int = 0) -> Mesh:
    """A mesh with one axis, `data`, over which the batch is divided.

    Args:
      devices: how many devices it takes; 0 is every device there is.

    Raises:
      InputError: there are not so many.
    """
    available = jax.devices()
    if devices < 0 or devices > len(available):
        raise InputError(
            f"mesh.data is {devices}, and there are {len(available)} {available[0].platform} devices; "
            "give at most so many, or 0 for all."
        )
    count = devices or len(available)
    # Automatic axes: jit decides the layout between the places where shard_map says it.
    return jax.make_mesh((count,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=available[:count])


def over_batch(mesh: Mesh) -> NamedSharding:
    """Rows divided over the data axis."""
    return NamedSharding(mesh, P(DATA_AXIS))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, P())


def padded_batch_size(size: int, mesh: Mesh, chunk: int) -> int:
    """The batch size rounded up to a multiple of devices x chunk (chunk 0: of devices); the rest is masked rows."""
    multiple = mesh.shape[DATA_AXIS] * max(chunk, 1)
    return -(-size // multiple) * multiple
