"""Graceful shutdown on SIGINT and SIGTERM: Ctrl-C, or the notice before a machine is preempted."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType


class StopRequest:
    """Within `with`, remembers SIGINT or SIGTERM instead of ending the process; a second one has its usual effect.

    Args:
      message: what is said when asked to stop.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def asked(self, step: int) -> signal.Signals | None:
        """The signal, once there was one; a run by itself stops after any step."""
        del step
        return self.signal

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._give_back()
        print(f"\n{self._message}; once more to leave at once", file=sys.stderr, flush=True)

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()
