"""What a person sees while work goes on: one live line on a terminal, plain lines in a log."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO


class Progress:
    """Writes to a stream: on a terminal the last line is overwritten, elsewhere every line stays."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._width = 0

    def line(self, text: str) -> None:
        """A line of progress, overwritten by the next on a terminal."""
        if self._live:
            text = text[: shutil.get_terminal_size().columns - 1]  # a line that wraps cannot be overwritten
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """A line that stays."""
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
