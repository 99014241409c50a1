"""How fast a run goes, pauses left out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Training time apart from pauses (evaluation, checkpoints), and how much of it went by waiting for data.

    Attributes:
      images: faces of a global batch.
    """

    images: int
    _steps: int = 0
    _started: float = field(default_factory=time.perf_counter)
    _paused: float = 0.0
    _waited: float = 0.0

    def step_done(self, waited: float) -> None:
        """Counts a step, of which `waited` seconds went by waiting for its batch."""
        self._steps += 1
        self._waited += waited

    def pause(self, seconds: float) -> None:
        """Leaves seconds out."""
        self._paused += seconds

    def restart(self) -> None:
        """Forgets what was measured so far: the first step includes what starts up only once."""
        self._steps, self._paused, self._waited, self._started = 0, 0.0, 0.0, time.perf_counter()

    @property
    def seconds_per_step(self) -> float:
        """Seconds of training a step, pauses left out; 0 before there was one."""
        spent = time.perf_counter() - self._started - self._paused
        return spent / self._steps if self._steps else 0.0

    @property
    def images_per_second(self) -> float:
        """Faces of global batches a second, pauses left out."""
        return self.images / self.seconds_per_step if self._steps else 0.0

    @property
    def seconds_per_step_with_pauses(self) -> float:
        """Seconds a step, pauses spread over the steps: what the time to go is worked out from."""
        return (time.perf_counter() - self._started) / self._steps if self._steps else 0.0

    @property
    def wait_share(self) -> float:
        """Share of training time that went by waiting for data."""
        spent = self.seconds_per_step * self._steps
        return self._waited / spent if spent > 0 else 0.0
