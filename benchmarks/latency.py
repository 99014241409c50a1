"""Measures the networks for phones under ONNX Runtime: time for one image on one core, and size of their files.

    python -m benchmarks.latency                  (or `make bench-latency`)
    python -m benchmarks.latency --rounds 20

NNS1 and NNS2 at their own sizes, float32 and int8, with random parameters, which take as long as trained ones. The
floor is the time that the bare multiply-adds would take at the rate of a float32 matrix product (1,024^3) on the same
core. All take turns in one process on one core. Times are processor time, so waiting for a shared core does not count;
on a core without other work they equal wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.lines import ROOT
from benchmarks.machine import describe_machine, in_words

NETWORKS = ("nns1", "nns2")
DTYPES = ("float32", "int8")
# "NNS2 ... can run 30ms / image on a mobile phone" (section 3.3, on a phone of 2015).
PHONE = {"nns2": 0.030}
_SIDE = 1024
_CALIBRATION = 16


def measure(rounds: int) -> dict[str, Any]:
    """Seconds, bytes and multiply-adds of each network in each dtype, and the rate of the product."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import onnxruntime
    from threadpoolctl import threadpool_limits

    from facenet_jax import models
    from facenet_jax.export.int8 import to_int8
    from facenet_jax.export.onnx import INPUT, to_onnx

    rng = np.random.default_rng(0)
    square = rng.standard_normal((_SIDE, _SIDE), np.float32)
    tasks: dict[str, Callable[[], object]] = {"product": lambda: square @ square}
    cases = []
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for name in NETWORKS:
        network, size = models.build(name), models.NETWORKS[name].input_size
        params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, *size, 3)))["params"]
        images = rng.integers(0, 256, (_CALIBRATION, *size, 3)).astype(np.uint8)
        model = to_onnx(network, params, size)
        for dtype in DTYPES:
            data = (to_int8(model, images) if dtype == "int8" else model).SerializeToString()
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            tasks[f"{name} {dtype}"] = lambda session=session, image=images[:1]: session.run(None, {INPUT: image})
            parameters, multiply_adds = models.totals(network, size)
            cases.append(
                {
                    "network": name,
                    "input_size": size,
                    "dtype": dtype,
                    "bytes": len(data),
                    "parameters": parameters,
                    "multiply_adds": multiply_adds,
                }
            )
    taken: dict[str, list[float]] = {task: [] for task in tasks}
    with threadpool_limits(1):
        for turn in range(rounds + 2):
            for task, run in tasks.items():
                run()  # fills the caches with its own data
                start = time.thread_time()
                run()
                seconds = time.thread_time() - start
                if turn >= 2:
                    taken[task].append(seconds)
    rate = _SIDE**3 / statistics.median(taken["product"])
    for case in cases:
        seconds = sorted(taken[f"{case['network']} {case['dtype']}"])
        case["seconds"] = statistics.median(seconds)
        case["seconds_p10"], case["seconds_p90"] = (seconds[int(share * (rounds - 1))] for share in (0.1, 0.9))
        case["floor_seconds"] = case["multiply_adds"] / rate
        case["times_floor"] = case["seconds"] / case["floor_seconds"]
    return {"rounds": rounds, "product_multiply_adds_a_second": rate, "cases": cases}


def report(found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        f"One image, one core: processor time, median of {found['rounds']:,} rounds in turns (in brackets the 10th "
        f"and 90th percentile). The floor is the bare multiply-adds at "
        f"{found['product_multiply_adds_a_second'] / 1e9:.1f} billion a second, the rate of a float32 matrix "
        "product on this core.",
        "",
        "| network | input | | file | latency | floor | latency / floor | the paper, on a phone of 2015 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in found["cases"]:
        rows, columns = case["input_size"]
        phone = PHONE.get(case["network"])
        lines.append(
            f"| {case['network'].upper()} | {rows}x{columns} | {case['dtype']} | {case['bytes'] / 1e6:.1f} MB "
            f"| {1e3 * case['seconds']:.2f} ms ({1e3 * case['seconds_p10']:.2f} to {1e3 * case['seconds_p90']:.2f}) "
            f"| {1e3 * case['floor_seconds']:.2f} ms | {case['times_floor']:.1f} "
            f"| {f'{1e3 * phone:.0f} ms' if phone else ''} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="where latency.md and .json go"
    )
    options = parser.parse_args()
    machine = describe_machine(("numpy", "onnxruntime"))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["JAX_PLATFORMS"] = "cpu"
    found = measure(options.rounds)
    text = report(found)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "latency.md").write_text(f"# Latency of the networks for phones\n\n{text}\n\n{in_words(machine)}\n")
    (options.out / "latency.json").write_text(json.dumps({"machine": machine} | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
