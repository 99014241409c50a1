"""Checks before step one what a run takes, read from the compiled step, and whether it fits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from facenet_jax.errors import InputError
from facenet_jax.runtime.mesh import on_cpu, padded_batch_size
from facenet_jax.runtime.progress import amount, duration

# A gradient takes about twice the arithmetic of the forward pass; chunks run forward once more.
_PASSES, _PASSES_IN_CHUNKS = 3, 4
# Convolutions and everything between them against the rate of a plain matrix product: on two CPU cores a step of NN4
# reached about a quarter of it, one of NNS2 a tenth.
_SHARE_OF_PEAK = 0.15


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes:
      parameters: of the network.
      multiply_adds: a face, forward, counted as the paper does.
      bytes_needed: on one device: state, batch and temporaries of the compiled step.
      bytes_available: on one device, or None where it cannot be determined.
      seconds_per_step: expected from arithmetic at a measured rate of matrix products; right to a factor of about two.
    """

    parameters: int
    multiply_adds: int
    bytes_needed: int
    bytes_available: int | None
    seconds_per_step: float

    def describe(self, steps: int) -> str:
        """Lines for the screen."""
        available = "" if self.bytes_available is None else f" of {amount(self.bytes_available)}"
        return (
            f"parameters      {self.parameters:,}\n"
            f"multiply-adds   {self.multiply_adds:,} a face\n"
            f"memory          {amount(self.bytes_needed)}{available} on each device\n"
            f"time            about {self.seconds_per_step:.2g} s a step, {duration(self.seconds_per_step * steps)} "
            f"for {steps:,} steps (by arithmetic; the progress line measures it)"
        )


def estimate(
    compiled: jax.stages.Compiled, mesh: Mesh, config: ConfigDict, parameters: int, multiply_adds: int
) -> Estimate:
    """Reads the compiled step and times a matrix product.

    Args:
      compiled: the step.
      mesh: what it was compiled for.
      config: its.
      parameters: of the network.
      multiply_adds: of one face.
    """
    chunk = config.batch.chunk
    rows = padded_batch_size(config.batch.size, mesh, chunk)
    passes = _PASSES_IN_CHUNKS if 0 < chunk < rows // mesh.size else _PASSES
    arithmetic = passes * 2.0 * multiply_adds * rows
    seconds = arithmetic / (matrix_product_rate(mesh) * _SHARE_OF_PEAK)
    available = _bytes_available(mesh)
    if available is not None and on_cpu(mesh):
        available //= len(mesh.local_devices)  # simulated devices share one memory
    return Estimate(parameters, multiply_adds, bytes_of(compiled), available, seconds)


def check_fits(found: Estimate, rows_per_device: int, bytes_with_chunk: Callable[[int], int]) -> None:
    """Raises InputError, one sentence, where the step needs more memory than a device has, with what to change.

    Args:
      found: for the config as it is.
      rows_per_device: faces of the global batch on a device.
      bytes_with_chunk: what a device needs with another chunk, from a step compiled for it.
    """
    if found.bytes_available is None or found.bytes_needed <= found.bytes_available:
        return
    room = found.bytes_available
    chunk = rows_per_device
    while chunk > 1:
        chunk = (chunk + 1) // 2
        needed = bytes_with_chunk(chunk)
        if needed <= room:
            advice = (
                f"set --config.batch.chunk={chunk}, the same gradient in {amount(needed)}, or lower config.batch.size"
            )
            break
    else:
        advice = "lower config.batch.size or config.model.input_size, or take a smaller network or a larger device"
    raise InputError(
        f"a step needs {amount(found.bytes_needed)} on each device, and {amount(room)} are free; {advice}."
    )


def bytes_of(compiled: jax.stages.Compiled) -> int:
    """What a compiled step takes on one device: state, batch, temporaries and what it returns."""
    memory: Any = compiled.memory_analysis()
    # Donated state is both argument and output, and counts once.
    return int(
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


def matrix_product_rate(mesh: Mesh, dtype: DTypeLike = jnp.float32) -> float:
    """Floating-point operations a second of all devices together in a matrix product."""
    n = 1024 if on_cpu(mesh) else 8192
    product = jax.jit(jnp.dot)
    x = jnp.ones((n, n), dtype)
    product(x, x).block_until_ready()
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        product(x, x).block_until_ready()
        best = min(best, time.perf_counter() - start)
    # Simulated devices share the same cores.
    return 2.0 * n**3 / best * (1 if on_cpu(mesh) else mesh.size)


def _bytes_available(mesh: Mesh) -> int | None:
    """Free memory of one device, or None where the platform does not say."""
    if on_cpu(mesh):
        return host_bytes_available()
    stats = mesh.devices.flat[0].memory_stats() or {}
    limit = stats.get("bytes_limit")
    return None if limit is None else int(limit - stats.get("bytes_in_use", 0))


def host_bytes_available() -> int | None:
    """Free memory of this machine, or of the container that this process is in; None where it cannot be determined."""
    limits = []
    try:
        meminfo = Path("/proc/meminfo").read_text().splitlines()
        limits += [int(line.split()[1]) * 1024 for line in meminfo if line.startswith("MemAvailable:")]
        # A container's own limit, where there is one (cgroup v2).
        maximum = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if maximum.isdigit():
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            stat = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
            # Cached files count as used there, and give way when memory is asked for.
            limits.append(int(maximum) - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        pass
    return min(limits) if limits else None
