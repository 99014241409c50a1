"""A source of white-noise faces, some of them bad, to load batches from."""

import os
import signal
from dataclasses import dataclass

import numpy as np

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.images.decode import BadFace, Reason

SIZE = (60, 50)


class CannotBePickled(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__()


@dataclass(frozen=True)
class Stub:
    """Twenty identities with ten faces; record r is white noise of seed r. Some are bad, raise or kill the process."""

    bad: tuple[int, ...] = ()
    raising: int = -1
    dying: int = -1

    @property
    def index(self) -> IdentityIndex:
        return IdentityIndex([str(i) for i in range(20)], np.arange(0, 201, 10))

    @property
    def digest(self) -> str:
        return "stub"

    def load(self, record: int, size: tuple[int, int]) -> np.ndarray:
        if record in self.bad:
            raise BadFace(Reason.TRUNCATED)
        if record == self.raising:
            raise CannotBePickled(1, 2)
        if record == self.dying:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.random.default_rng(record).integers(1, 256, (*size, 3), dtype=np.uint8)

    def describe(self, record: int) -> str:
        return f"stub/{record}"


BAD = tuple(range(0, 200, 23))


def assert_same(ours, theirs):
    assert [step for step, _ in ours] == [step for step, _ in theirs]
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
