"""Measures the rates of this machine's processors, as a `Chip`.

`python -m facenet_jax.planning.host DEVICES` prints it as JSON, in a process of its own with that many simulated
devices, which share the machine: each gets an equal part of every rate.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from facenet_jax.errors import InputError
from facenet_jax.planning.chips import Chip


def measure_host(devices: int) -> Chip:
    """The rates of this machine, for a number of simulated devices.

    Raises:
      InputError: they could not be measured.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
    command = [sys.executable, "-m", "facenet_jax.planning.host", str(devices)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"this machine could not be measured: {last[:200]}")
    return Chip(**json.loads(done.stdout.splitlines()[-1]))


def _measure(devices: int) -> Chip:
    """Measures, in the process that has the devices."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec as P

    from facenet_jax.runtime.mesh import BATCH_AXES, make_mesh, over_batch

    # A convolution from the middle of the paper's networks with both its gradients, 16 faces.
    faces, side, inputs, outputs = 16, 28, 128, 192
    images, kernel = jnp.ones((faces, side, side, inputs)), jnp.ones((3, 3, inputs, outputs))

    def convolve(images: Any, kernel: Any) -> Any:
        layout = ("NHWC", "HWIO", "NHWC")
        return jnp.sum(jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=layout) ** 2)

    convolution = (
        3 * 2.0 * faces * side**2 * 9 * inputs * outputs / _seconds(jax.jit(jax.grad(convolve, (0, 1))), images, kernel)
    )

    square = jnp.ones((1024, 1024))
    product = 2.0 * square.shape[0] ** 3 / _seconds(jax.jit(jnp.dot), square, square)

    # 256 MiB, more than a cache holds; in place, since the pages of a step's temporaries are allocated before, too.
    several = 8
    add_one = jax.jit(lambda x: jax.lax.fori_loop(0, several, lambda _, x: x + 1.0, x))
    bandwidth = several * 2.0 * 2**28 / _seconds(add_one, jnp.ones(2**26))

    link = 1e30  # one device sends nothing
    if devices > 1:
        mesh = make_mesh(devices)
        each = 2**22
        rows = jax.device_put(jnp.ones((devices, each)), over_batch(mesh))
        add = jax.jit(
            jax.shard_map(lambda x: jax.lax.psum(x, BATCH_AXES), mesh=mesh, in_specs=P(BATCH_AXES), out_specs=P())
        )
        link = 2.0 * 4 * each * (devices - 1) / devices / _seconds(add, rows)
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return Chip(
        name="cpu",
        peak=convolution / devices,
        peak_float32=convolution / devices,
        exact=product / devices,
        memory=memory / devices,
        bandwidth=bandwidth / devices,
        link=link,
        domain=devices,
        network=link,
    )


def _seconds(run: Callable[..., Any], *arguments: Any) -> float:
    """The median of seven runs after a first, which is typical of a machine that others use too."""
    import jax

    jax.block_until_ready(run(*arguments))
    taken = []
    for _ in range(7):
        start = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(int(sys.argv[1])))))
