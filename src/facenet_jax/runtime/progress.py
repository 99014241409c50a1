"""Progress of long work: one live line on a terminal, plain lines in a log."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

# Between two lines, on a terminal and in a log.
_LIVE_SECONDS, _LOG_SECONDS = 0.2, 30.0


class Progress:
    """Writes to a stream: on a terminal the last line is overwritten, elsewhere every line stays."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        """Opens; quiet says nothing, as all processes of a job but the first."""
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._live = self._stream.isatty()
        self._width = 0

    @property
    def live(self) -> bool:
        """Whether it is a terminal."""
        return self._live

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


class Tally:
    """Counts towards a total: how many are done, the rate, and the time left.

    The clock starts when the first are seen done: what starts up only once says nothing of the rate.

    Args:
      progress: where the lines go, neither too many on a terminal nor in a log.
      what: what is done, for the beginning of the line.
      total: how many there are.
      done: how many were done before.
    """

    def __init__(self, progress: Progress, what: str, total: int, done: int = 0) -> None:
        self._progress, self._what, self._total, self._first = progress, what, total, done
        self._started = self._said = time.perf_counter()
        self._overall = done, self._started
        self._begun = False

    def rate(self, done: int) -> float:
        """How many a second, so far."""
        first, started = (self._first, self._started) if done > self._first else self._overall
        return (done - first) / max(time.perf_counter() - started, 1e-9)

    def update(self, done: int, note: str = "") -> None:
        """Says how far it is, if it is time to.

        Args:
          done: how many are done, those from before included.
          note: for the end of the line.
        """
        now = time.perf_counter()
        if not self._begun and done > self._first:
            self._begun, self._first, self._started = True, done, now
        if now - self._said < (_LIVE_SECONDS if self._progress.live else _LOG_SECONDS):
            return
        self._said = now
        rate = self.rate(done)
        left = f"  {duration((self._total - done) / rate)} to go" if rate > 0 else ""
        self._progress.line(f"{self._what} {done:,}/{self._total:,}  {rate:,.0f}/s{left}{note and '  ' + note}")


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
