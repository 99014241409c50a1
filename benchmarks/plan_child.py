"""The index and the plan at any size, asked for one thing at a time: see benchmarks/plan.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lines import serve, timed
from facenet_jax.data.index import open_index, split_holdout, write_index
from facenet_jax.data.plan import BatchPlan

_CHUNK = 100_000  # identities drawn at a time
# The logarithm of the faces of an identity is normal with this deviation: the mean is three times the median.
_DEVIATION = 1.5
_MOST = 10_000


def drawn(identities: int, mean: float) -> Iterator[tuple[list[str], NDArray[np.int64]]]:
    """Names and numbers of faces of made-up identities, in chunks."""
    random = np.random.default_rng(0)
    for first in range(0, identities, _CHUNK):
        number = min(_CHUNK, identities - first)
        counts = random.lognormal(np.log(mean) - _DEVIATION**2 / 2, _DEVIATION, number)
        yield [f"person-{first + i:08d}" for i in range(number)], np.clip(counts, 1, _MOST).astype(np.int64)


class Plan:
    """An index and a plan on it."""

    def build(self, folder: str, identities: int, mean: float) -> dict[str, Any]:
        """Writes an index."""

        def write() -> float:
            write_index(folder, drawn(identities, mean))
            return 0.0

        return timed(write, 1)

    def open(self, folder: str) -> dict[str, Any]:
        """Opens it; the value is how many records it has."""

        def opened() -> float:
            self.index = open_index(folder)
            return float(self.index.records)

        return timed(opened, 1)

    def histogram(self) -> dict[str, Any]:
        """Quantiles of the faces of an identity."""
        counts = np.diff(self.index.offsets)
        return {"quantiles": np.quantile(counts, [0, 0.5, 0.9, 0.99, 1]).tolist()}

    def split(self) -> dict[str, Any]:
        """Chooses who is held out, a hundredth; the value is how many."""
        return timed(lambda: float(len(split_holdout(self.index, 0.01)[1])), 1)

    def plan(self, size: int) -> dict[str, Any]:
        """Makes the plan; the value is how many batches an epoch has."""

        def made() -> float:
            self.plan_ = BatchPlan(self.index, size=size)
            return float(self.plan_.batches_per_epoch)

        return timed(made, 1)

    def batch(self, epoch: int) -> dict[str, Any]:
        """The first batch of an epoch."""
        step = epoch * self.plan_.batches_per_epoch
        return timed(lambda: float(self.plan_.batch(step).records[0]), 1)

    def batches(self, epoch: int, number: int) -> dict[str, Any]:
        """Batches spread over an epoch: the seconds of each."""
        steps = epoch * self.plan_.batches_per_epoch + np.linspace(1, self.plan_.batches_per_epoch - 1, number).astype(
            int
        )
        seconds: list[float] = []

        def each() -> float:
            for step in steps:
                started = time.perf_counter()
                batch = self.plan_.batch(int(step))
                seconds.append(time.perf_counter() - started)
                assert len(np.unique(batch.records)) == self.plan_.size
            return 0.0

        return timed(each, 1) | {"each": seconds}


if __name__ == "__main__":
    plan = Plan()
    names = ("build", "open", "histogram", "split", "plan", "batch", "batches")
    serve({name: getattr(plan, name) for name in names} | {"nothing": lambda: timed(lambda: 0.0, 1)})
