"""Runs several JAX processes on this machine as the hosts of one mesh."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def start(script: Path, count: int, devices: int, *arguments: str) -> list[str]:
    """Runs a script in `count` processes with `devices` simulated devices each; returns what each printed.

    The script calls `join()` before it uses JAX.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "TEST_COORDINATOR": f"localhost:{port}",
        "TEST_PROCESSES": str(count),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=environment | {"TEST_PROCESS": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(count)
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


def join() -> None:
    """Joins the mesh, in a process that `start` began."""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        os.environ["TEST_COORDINATOR"], int(os.environ["TEST_PROCESSES"]), int(os.environ["TEST_PROCESS"])
    )
