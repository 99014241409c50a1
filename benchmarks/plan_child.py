"""Times the index and the plan at any size, asked for one thing at a time: see benchmarks/plan.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lines import serve, timed
from facenet_jax.datasets.index import IdentityIndex, split_holdout
from facenet_jax.datasets.names import Names, write_names
from facenet_jax.input.plan import BatchPlan
from facenet_jax.runtime.files import ArrayWriter

_CHUNK = 100_000  # identities drawn at a time
# The logarithm of the faces of an identity is normal with this deviation: the mean is three times the median.
_DEVIATION = 1.5
_MOST = 10_000


def drawn_counts(identities: int, mean: float) -> Iterator[NDArray[np.int64]]:
    """Numbers of faces of synthetic identities, in chunks."""
    random = np.random.default_rng(0)
    for first in range(0, identities, _CHUNK):
        counts = random.lognormal(np.log(mean) - _DEVIATION**2 / 2, _DEVIATION, min(_CHUNK, identities - first))
        yield np.clip(counts, 1, _MOST).astype(np.int64)


class Plan:
    """An index and a plan on it."""

    def build(self, folder: str, identities: int, mean: float) -> dict[str, Any]:
        """Writes an index in the form of a prepared dataset."""

        def write() -> float:
            write_names(Path(folder) / "names", (f"person-{i:08d}" for i in range(identities)), identities)
            before = np.zeros(1, np.int64)
            with ArrayWriter(Path(folder) / "offsets.npy", np.int64, (identities + 1,)) as offsets:
                offsets.append(before)
                for counts in drawn_counts(identities, mean):
                    ends = before + np.cumsum(counts)
                    offsets.append(ends)
                    before = ends[-1:]
            return 0.0

        return timed(write, 1)

    def open(self, folder: str) -> dict[str, Any]:
        """Opens it; the value is how many records it has."""

        def opened() -> float:
            offsets = np.load(Path(folder) / "offsets.npy", mmap_mode="r")
            self.index = IdentityIndex(Names(Path(folder) / "names"), offsets)
            return float(self.index.records)

        return timed(opened, 1)

    def histogram(self) -> dict[str, Any]:
        """Quantiles of the faces of an identity."""
        counts = np.diff(self.index.offsets)
        return {"quantiles": np.quantile(counts, [0, 0.5, 0.9, 0.99, 1]).tolist()}

    def split(self) -> dict[str, Any]:
        """Chooses a hundredth of the identities to hold out; the value is how many."""
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
        """Batches at even intervals of an epoch: the seconds of each, the shortest of three turns."""
        steps = epoch * self.plan_.batches_per_epoch + np.linspace(1, self.plan_.batches_per_epoch - 1, number).astype(
            int
        )
        seconds: list[float] = []

        def each() -> float:
            for step in steps:
                turns = []
                for _ in range(3):
                    started = time.perf_counter()
                    batch = self.plan_.batch(int(step))
                    turns.append(time.perf_counter() - started)
                seconds.append(min(turns))
                assert len(np.unique(batch.records)) == self.plan_.size
            return 0.0

        return timed(each, 1) | {"each": seconds}


if __name__ == "__main__":
    plan = Plan()
    names = ("build", "open", "histogram", "split", "plan", "batch", "batches")
    serve({name: getattr(plan, name) for name in names} | {"nothing": lambda: timed(lambda: 0.0, 1)})
