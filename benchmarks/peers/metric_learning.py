"""Times value and gradient of pytorch-metric-learning's semi-hard miner and triplet loss, asked by lines of JSON.

The miner lists every triplet with D(a, p) < D(a, n) <= D(a, p) + margin, many for a pair where the paper takes one,
and the loss is the mean of those above 0.
"""

from __future__ import annotations

import os
from importlib import metadata
from typing import Any

import numpy as np
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner

from benchmarks.lines import serve, timed


class Miner:
    """A batch, the miner and the loss."""

    def __init__(self) -> None:
        squared = LpDistance(normalize_embeddings=False, p=2, power=2)
        self.miner = TripletMarginMiner(margin=0.2, type_of_triplets="semihard", distance=squared)
        self.loss = TripletMarginLoss(margin=0.2, distance=squared)

    def read(self, batch: str, device: str = "cpu") -> dict[str, Any]:
        """Reads an .npz file with embeddings [B, d] and labels [B] onto a device."""
        with np.load(batch) as arrays:
            self.embeddings = torch.from_numpy(arrays["embeddings"]).to(device).requires_grad_()
            self.labels = torch.from_numpy(arrays["labels"].astype(np.int64)).to(device)
        return {}

    def run(self, contender: str, calls: int) -> dict[str, Any]:
        """Times the only contender here."""
        assert contender == "miner"
        return timed(self.value_and_gradient, calls)

    def value_and_gradient(self) -> float:
        """The loss; the gradient is in `embeddings.grad`."""
        self.embeddings.grad = None
        loss = self.loss(self.embeddings, self.labels, self.miner(self.embeddings, self.labels))
        loss.backward()
        return float(loss.detach())


def versions() -> dict[str, Any]:
    """The versions of this environment."""
    return {"torch": torch.__version__, "pytorch-metric-learning": metadata.version("pytorch-metric-learning")}


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    miner = Miner()
    serve({"read": miner.read, "run": miner.run, "versions": versions})
