"""Times a training step of Table 2 with batch normalisation in PyTorch, plain or compiled: see benchmarks/device.py."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch

from benchmarks.lines import serve
from benchmarks.peers.network import Table2, pixels


def step(
    table: dict[str, dict[str, Any]], size: list[int], faces: int, compiled: bool, turns: int, steps: int
) -> dict[str, Any]:
    """Seconds of a step, channels last, in bfloat16 by autocast, with fused Adam, on random pixels.

    Args:
      table: see benchmarks.peers.table.
      size: rows and columns of the input.
      faces: in the batch.
      compiled: whether by torch.compile.
      turns, steps: the median of this many turns, each of this many steps sent one after another.
    """
    where = "cuda" if torch.cuda.is_available() else "cpu"
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (faces, 3, *size), np.uint8)).to(where)
    weights = torch.from_numpy(rng.standard_normal((faces, 128)).astype(np.float32)).to(where)
    network = Table2(table).to(where).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    embed: Any = torch.compile(network) if compiled else network

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(where, torch.bfloat16):
            points = embed(pixels(images))
        (points.float() * weights).sum().backward()
        optimizer.step()

    def wait() -> None:
        if where == "cuda":
            torch.cuda.synchronize()

    started = time.perf_counter()
    for _ in range(3):
        run()
    wait()
    first = time.perf_counter() - started
    seconds = []
    for _ in range(turns):
        started = time.perf_counter()
        for _ in range(steps):
            run()
        wait()
        seconds.append((time.perf_counter() - started) / steps)
    return {"seconds": statistics.median(seconds), "faces": faces, "seconds_to_compile": first}


if __name__ == "__main__":
    serve({"step": step})
