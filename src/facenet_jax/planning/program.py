"""Compiles the training step for devices that this machine does not have, in a process of its own.

Simulated devices have to be requested before JAX starts, so another process is needed. It prints a `Program` as JSON:
`python -m facenet_jax.planning.program CONFIG DEVICES TOPOLOGY SLICES [--config.key=value ...]`. Nothing is allocated
and nothing runs: the step is compiled from shapes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from facenet_jax.errors import InputError
from facenet_jax.planning.hlo import Collective


@dataclass(frozen=True)
class Program:
    """A compiled step, as one of the devices runs it.

    Attributes:
      compiler: in words.
      devices: how many.
      batch: faces of a global batch.
      rows: rows of the global batch, with masked ones.
      chunk: faces that the network takes at once.
      embedding_size: d.
      members: networks that share it.
      dtype: of the network's arithmetic.
      parameters: of the network.
      multiply_adds: of one face, forward, as the paper counts.
      arithmetic: floating-point operations of the network and the update on one device, as XLA counts them.
      loss_arithmetic: the same for distances and gradient of the loss: 6 x own rows x rows x d.
      memory: bytes that a device needs: state, batch, temporaries.
      state: bytes of these that are parameters and accumulators.
      traffic: bytes between a device and its memory in a step.
      collectives: the exchanges between devices.
    """

    compiler: str
    devices: int
    batch: int
    rows: int
    chunk: int
    embedding_size: int
    members: int
    dtype: str
    parameters: int
    multiply_adds: int
    arithmetic: float
    loss_arithmetic: float
    memory: int
    state: int
    traffic: int
    collectives: tuple[Collective, ...]


def compile_for(config: str, overrides: list[str], devices: int, topology: str = "", slices: int = 1) -> Program:
    """Compiles a config's step for a number of devices.

    Args:
      config: a config file, or the name of one.
      overrides: of its values.
      devices: how many.
      topology: of TPU chips, such as `v5e:16x16`, for TPU's own compiler, which needs no TPU; empty: simulated CPU
        devices.
      slices: how many slices of that topology the devices form.

    Raises:
      InputError: the config is invalid, or TPU's compiler is not installed or finds that the step does not fit.
    """
    simulated = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={1 if topology else devices}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": simulated.strip()}
    # Only the compiler of libtpu is needed: no search for the metadata of a TPU machine, no lock on its chips.
    environment |= {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    given = [config, str(devices), topology, str(slices), *overrides]
    command = [sys.executable, "-m", "facenet_jax.planning.program", *given]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 2:
        raise InputError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(
            f"the step could not be compiled for {devices} devices (exit code {done.returncode}): {last[:200]}"
        )
    values = json.loads(done.stdout.splitlines()[-1])
    return Program(**values | {"collectives": tuple(Collective(**c) for c in values["collectives"])})


def _compile(config_name: str, overrides: list[str], devices: int, topology: str, slices: int) -> Program:
    """Compiles, in the process that has the devices."""
    from facenet_jax import models
    from facenet_jax.config import load_config
    from facenet_jax.planning.hlo import collectives, memory_traffic
    from facenet_jax.runtime.mesh import padded_batch_size
    from facenet_jax.training.optimizer import make_optimizer
    from facenet_jax.training.preflight import bytes_of
    from facenet_jax.training.state import abstract_state
    from facenet_jax.training.step import compile_step

    config = load_config(config_name, overrides)
    mesh, compiler = _mesh(devices, config.mesh.data, config.mesh.fsdp, topology, slices)
    network, optimizer = models.from_config(config.model), make_optimizer(config)
    size = tuple(config.model.input_size)
    rows = padded_batch_size(config.batch.size, mesh, config.batch.chunk)
    state = abstract_state(network, size, optimizer, mesh)
    compiled = compile_step(config, network, optimizer, mesh, state)
    text = compiled.as_text() or ""
    costs: Any = compiled.cost_analysis()
    own_rows = rows // mesh.size
    # XLA counts the body of the loop over chunks once.
    chunk = min(config.batch.chunk or own_rows, own_rows)
    pieces = own_rows // chunk
    parameters, multiply_adds = models.totals(network, size)
    return Program(
        compiler=compiler,
        devices=devices,
        batch=config.batch.size,
        rows=rows,
        chunk=chunk,
        embedding_size=config.model.embedding_size,
        members=config.model.members,
        dtype=config.model.dtype,
        parameters=parameters,
        multiply_adds=multiply_adds,
        arithmetic=float(costs["flops"]) * pieces,
        loss_arithmetic=6.0 * own_rows * rows * config.model.embedding_size,
        memory=bytes_of(compiled),
        state=_bytes_on_one_device(state),
        traffic=memory_traffic(text),
        collectives=tuple(collectives(text)),
    )


def _mesh(devices: int, data: int, fsdp: int, topology: str, slices: int) -> tuple[Any, str]:
    from facenet_jax.runtime.mesh import make_mesh, mesh_over

    if devices % fsdp:
        raise InputError(f"config.mesh.fsdp is {fsdp}, which does not divide {devices} chips; give one that does.")
    if data and data * fsdp != devices:
        raise InputError(
            f"config.mesh.data={data} with config.mesh.fsdp={fsdp} takes {data * fsdp} chips, and --chips is "
            f"{devices}; make them agree, or give config.mesh.data=0, which takes all."
        )
    if not topology:
        return make_mesh(devices // fsdp, fsdp), f"XLA for {devices} simulated CPU devices"
    from jax.experimental import topologies

    options: dict[str, Any] = {"chips_per_host_bounds": [1, 1, 1]} if devices == slices else {}
    options |= {"num_slices": slices} if slices > 1 else {}
    several = f"{slices} slices of {topology}" if slices > 1 else topology
    try:
        found = topologies.get_topology_desc(topology, platform="tpu", **options).devices
    except (RuntimeError, ValueError, ImportError) as error:
        raise InputError(
            f"TPU's compiler cannot compile for {several} ({str(error).splitlines()[0]}); make setup EXTRAS=tpu "
            "installs it, or leave --compiler=tpu out."
        ) from error
    if len(found) != devices:
        raise InputError(f"TPU's compiler sees {len(found)} devices in {several}; leave --compiler=tpu out.")
    return mesh_over(found, fsdp), f"TPU's compiler for {several}"


def _bytes_on_one_device(state: Any) -> int:
    import jax

    leaves = jax.tree.leaves(state)
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)


def _main() -> int:
    config, devices, topology, slices, *overrides = sys.argv[1:]
    try:
        program = _compile(config, overrides, int(devices), topology, int(slices))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(asdict(program)))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
