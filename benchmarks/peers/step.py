"""Times a step of NN4 with batch normalisation in PyTorch, channels last: see benchmarks/step.py."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from benchmarks.lines import serve, timed
from benchmarks.peers.network import Table2, pixels


class Peer:
    """The peer's network and a batch."""

    def prepare(self, table: dict[str, dict[str, Any]], faces: int) -> dict[str, Any]:
        """Makes the network and the batch, and runs a step."""
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        rng = np.random.default_rng(0)
        images = torch.from_numpy(rng.integers(0, 256, (faces, 3, 96, 96), np.uint8))
        weights = torch.from_numpy(rng.standard_normal((faces, 128)).astype(np.float32))
        network = Table2(table).to(memory_format=torch.channels_last)

        def run() -> float:
            network.zero_grad()
            points = network(pixels(images))
            (points * weights).sum().backward()
            return float(points.detach()[0, 0])

        self._run = run
        return {"value": run()}

    def run(self, calls: int) -> dict[str, Any]:
        """See `timed`."""
        return timed(self._run, calls)


if __name__ == "__main__":
    peer = Peer()
    serve({"prepare": peer.prepare, "run": peer.run})
