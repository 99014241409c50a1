"""Compares the time that `facenet-jax plan` predicts with measured steps, on 1 and 8 simulated devices of this machine.

Rates are measured, and the step compiled and timed, one after the other in one run, so that conditions are the same.
Run it on an idle machine:

    python -m benchmarks.plan_check --out benchmarks/results/plan_check
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, in_words
from facenet_jax.planning.host import measure_host
from facenet_jax.planning.predict import Assumptions, predict
from facenet_jax.planning.program import compile_for

# Network, and faces of a batch.
CASES = (("nns2", 24), ("nns2", 96), ("nn4", 24))
DEVICES = (1, 8)
STEPS = 7


def overrides(batch: int) -> list[str]:
    """A batch of identities with four faces each."""
    return [
        f"--config.batch.size={batch}",
        "--config.batch.faces_per_identity=4",
        "--config.batch.random_negatives=0",
    ]


def measured(config: str, batch: int, devices: int) -> dict[str, float]:
    """Seconds of a step in a process that has this many devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
    command = [sys.executable, "-m", "benchmarks.plan_check", "--measure", config, str(batch), str(devices)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(config_name: str, batch: int, devices: int) -> dict[str, float]:
    """Runs steps on random pixels: the median and the extremes of their seconds, without the first two."""
    import jax
    import numpy as np

    from facenet_jax import models
    from facenet_jax.config import load_config
    from facenet_jax.runtime.mesh import make_mesh, over_batch
    from facenet_jax.training.device_batch import DeviceBatch
    from facenet_jax.training.optimizer import make_optimizer
    from facenet_jax.training.state import create_state
    from facenet_jax.training.step import make_train_step

    config = load_config(config_name, overrides(batch))
    mesh = make_mesh(devices)
    network, optimizer = models.from_config(config.model), make_optimizer(config)
    size = tuple(config.model.input_size)
    state = create_state(network, size, optimizer, mesh, 0)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)
    faces = DeviceBatch(
        *jax.device_put((pixels, np.arange(batch, dtype=np.int32) // 4, np.ones(batch, bool)), over_batch(mesh))
    )
    step = make_train_step(config, network, optimizer, mesh).lower(state, faces).compile()
    seconds = []
    for _ in range(STEPS + 2):
        start = time.perf_counter()
        state, metrics = step(state, faces)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - start)
    taken = sorted(seconds[2:])
    return {"median": taken[len(taken) // 2], "least": taken[0], "most": taken[-1]}


def _write(out: Path, lines: list[str], rows: list[dict[str, Any]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    out.with_suffix(".md").write_text("\n".join([*lines, "", in_words(machine)]) + "\n")
    out.with_suffix(".json").write_text(json.dumps({"machine": machine, "cases": rows}, indent=1) + "\n")


def main() -> None:
    """Prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--measure", nargs=3, metavar=("CONFIG", "BATCH", "DEVICES"), help="in the process for one case"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/plan_check"))
    options = parser.parse_args()
    if options.measure:
        config, batch, devices = options.measure
        print(json.dumps(measure(config, int(batch), int(devices))))
        return
    heads = [
        "network",
        "batch",
        "devices",
        "arithmetic",
        "memory bandwidth",
        "interconnect",
        "predicted, s",
        "measured, s",
        "measured / predicted",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    print("\n".join(lines), flush=True)
    rows = []
    for devices in DEVICES:
        for config, batch in CASES:
            chip = measure_host(devices)
            found = predict(compile_for(config, overrides(batch), devices), chip, Assumptions(1.0, 1.0))
            taken = measured(config, batch, devices)
            rows.append(
                {
                    "network": config,
                    "batch": batch,
                    "devices": devices,
                    "chip": vars(chip),
                    "predicted": found.limits,
                    "measured": taken,
                }
            )
            cells = [config, str(batch), str(devices), *(f"{s:.2g}" for s in found.limits.values())]
            cells += [f"{found.seconds:.2g}", f"{taken['median']:.2g} ({taken['least']:.2g} to {taken['most']:.2g})"]
            lines.append("| " + " | ".join([*cells, f"{taken['median'] / found.seconds:.2f}"]) + " |")
            print(lines[-1], flush=True)
            _write(options.out, lines, rows)  # after each case, so that an interrupted measurement keeps its figures


if __name__ == "__main__":
    main()
