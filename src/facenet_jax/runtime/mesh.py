"""Devices as a mesh: one program, from a laptop (a mesh of one) to a pod."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from facenet_jax.errors import InputError
from facenet_jax.runtime.hosts import devices

# Rows of the batch are divided over both; parameters and what the optimiser keeps of them over the second.
DATA_AXIS, PARAMETER_AXIS = "data", "fsdp"
BATCH_AXES = (DATA_AXIS, PARAMETER_AXIS)

# Smaller arrays are on every device: dividing them saves nothing and costs a message.
_DIVIDED_FROM = 2**16


def make_mesh(data: int = 0, fsdp: int = 1) -> Mesh:
    """A mesh of data x fsdp devices.

    Args:
      data: how many parts the batch has for each of fsdp; 0: as many as use every device.
      fsdp: how many devices share one copy of the parameters, each with its own rows of the batch all the same.

    Raises:
      InputError: there are fewer devices, or processes would have different numbers of them, or none.
    """
    available = devices()
    count = (data or max(1, len(available) // fsdp)) * fsdp
    if data < 0 or count > len(available):
        raise InputError(
            f"mesh.data is {data} and mesh.fsdp is {fsdp}, and there are {len(available)} {available[0].platform} "
            "devices; their product may not be more than that, and mesh.data=0 takes all."
        )
    check_shares([device.process_index for device in available[:count]], jax.process_count(), data, fsdp)
    return mesh_over(available[:count], fsdp)


def mesh_over(devices: Sequence[jax.Device], fsdp: int) -> Mesh:
    """A mesh of all of these devices, laid out for the networks between them.

    Devices say which TPU slice, or which machine with NVLink, they belong to (`slice_index`). Within one they are near
    each other; between them is the data centre's network. So fsdp, which gathers parameters in every layer, stays
    within a slice where it can, and the batch, of which gradients are summed once a step, goes over the slices.
    Processors do not say; they stand in the order of their processes, so fsdp stays within those.

    Args:
      devices: a multiple of fsdp of them.
      fsdp: how many share one copy of the parameters; more than a slice has go over several.

    Raises:
      InputError: the slices have different numbers of devices.
    """
    # Automatic axes: jit decides the layout between the places where shard_map says it.
    axes = (AxisType.Auto, AxisType.Auto)
    slices = Counter(getattr(device, "slice_index", 0) for device in devices)
    own = len(devices) // len(slices)
    if len(slices) == 1:
        return jax.make_mesh((own // fsdp, fsdp), BATCH_AXES, axis_types=axes, devices=devices)
    if set(slices.values()) != {own}:
        raise InputError(
            f"the job's slices (of a TPU, or machines with NVLink) have {min(slices.values())} to "
            f"{max(slices.values())} devices each, and a mesh over them needs as many in each: start it on alike ones."
        )
    near = math.gcd(fsdp, own)
    far = fsdp // near
    arranged = mesh_utils.create_hybrid_device_mesh(
        (own // near, near), (len(slices) // far, far), devices, allow_split_physical_axes=True
    )
    return Mesh(arranged, BATCH_AXES, axis_types=axes)


def check_shares(processes: Sequence[int], process_count: int, data: int, fsdp: int) -> None:
    """Raises InputError unless all processes have equally many devices of a mesh: each loads as much of a batch.

    Args:
      processes: the process of each device of the mesh.
      process_count: how many processes there are.
      data, fsdp: what the mesh was asked to be.
    """
    of_process = Counter(processes)
    shares = [of_process[process] for process in range(process_count)]
    if min(shares) != max(shares):
        raise InputError(
            f"config.mesh.data={data} with config.mesh.fsdp={fsdp} takes {len(processes)} devices, from {min(shares)} "
            f"to {max(shares)} of each of the {process_count} processes, and all must have the same number; "
            "config.mesh.data=0 takes all devices if config.mesh.fsdp divides their number."
        )


def platform_of(mesh: Mesh) -> str:
    """cpu, gpu or tpu."""
    return str(mesh.devices.flat[0].platform)


def on_cpu(mesh: Mesh) -> bool:
    """Whether its devices are this machine's processor, simulated ones or one, with the host's memory."""
    return platform_of(mesh) == "cpu"


def over_batch(mesh: Mesh) -> NamedSharding:
    """Rows divided over all devices."""
    return NamedSharding(mesh, P(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, P())


def over_parameters(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """How a parameter, and what the optimiser keeps of it, is divided: see `divided_axis`."""
    axis = divided_axis(shape, mesh.shape[PARAMETER_AXIS])
    return NamedSharding(mesh, P() if axis is None else P(*[None] * axis, PARAMETER_AXIS))


def divided_axis(shape: tuple[int, ...], fsdp: int) -> int | None:
    """The longest axis that fsdp divides; None where the array is small, or there is no such axis."""
    if fsdp == 1 or math.prod(shape) < _DIVIDED_FROM:
        return None
    return max((axis for axis, n in enumerate(shape) if n % fsdp == 0), key=lambda axis: shape[axis], default=None)


def padded_batch_size(size: int, mesh: Mesh, chunk: int) -> int:
    """The batch size rounded up to a multiple of devices x chunk; the rest is masked rows.

    A chunk of 0, or larger than a device's share, is the whole share: then a multiple of devices.
    """
    share = -(-size // mesh.size)
    if 0 < chunk < share:
        share = -(-share // chunk) * chunk
    return share * mesh.size
