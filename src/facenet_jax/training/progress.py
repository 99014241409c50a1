"""What a person sees while a run goes on: one live line on a terminal, plain lines in a log."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass, field
from typing import TextIO


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


class Progress:
    """Writes to a stream: on a terminal the last line is overwritten, elsewhere every line stays."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        """Opens; quiet says nothing, as all processes of a job but the first."""
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._live = self._stream.isatty()
        self._width = 0

    def line(self, text: str) -> None:
        """A line of progress, overwritten by the next on a terminal."""
        if self._quiet:
            return
        if self._live:
            text = text[: shutil.get_terminal_size().columns - 1]  # a line that wraps cannot be overwritten
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._quiet:
            return
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._width = 0
        self._stream.write(text + "\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """Seconds in words that stay short: 42 s, 3 min 20 s, 5 h 12 min, 3 d 4 h."""
    seconds = round(seconds)
    for unit, size, smaller, smaller_size in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            rest //= smaller_size
            return f"{whole} {unit} {rest} {smaller}" if rest else f"{whole} {unit}"
    return f"{seconds} s"


def amount(count: float) -> str:
    """Bytes in words: 512 MiB, 3.2 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
