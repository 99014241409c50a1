"""Metrics of a run: one JSON object a line on disk, the same as TensorBoard events, and how fast the run goes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from tensorboardX import SummaryWriter

from facenet_jax.errors import first_line
from facenet_jax.runtime.files import append, in_bucket, write_whole
from facenet_jax.runtime.json_files import read_rows

METRICS_FILE = "metrics.jsonl"
# In a bucket a file that grows is written whole each time.
_BUCKET_SECONDS = 60

# A function of the user's that gets each row: the step, and its figures by name.
Hook: TypeAlias = Callable[[int, dict[str, Any]], object]


class Metrics(Protocol):
    """Where the figures of a step go."""

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Writes one row."""
        ...

    def keep(self) -> None:
        """Flushes: what was written so far survives the end of the process."""
        ...

    def close(self) -> None:
        """Nothing is written after it."""
        ...


class NoMetrics:
    """For the processes of a job that leave writing to the first."""

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Writes nothing."""

    def keep(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class MetricsWriter:
    """Appends to `metrics.jsonl` and to `tensorboard/` in the working directory, and calls a hook.

    A run that continues from step s drops what was written after it, since those steps are taken again.
    """

    def __init__(
        self, workdir: Path, from_step: int, hook: Hook | None = None, say: Callable[[str], None] = print
    ) -> None:
        """Opens both; rows of `metrics.jsonl` with a step above from_step are cut off, and a torn last line.

        Args:
          workdir: of the run.
          from_step: the step that the run continues from.
          hook: gets each row after it is written.
          say: takes a line for the screen.
        """
        path = workdir / METRICS_FILE
        kept = [row for row in read_metrics(workdir) if row["step"] <= from_step]
        write_whole(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._path = path
        self._rows: list[str] = []
        self._written = time.monotonic()
        # purge_step hides the events from that step on which an earlier, longer life of the run left behind.
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=from_step + 1)
        self._hook, self._say, self._hook_failed = hook, say, False

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Writes one row; floats that JSON cannot represent become null."""
        row = {"step": step} | {name: _plain(value) for name, value in values.items()}
        self._rows.append(json.dumps(row) + "\n")
        if not in_bucket(self._path) or time.monotonic() - self._written >= _BUCKET_SECONDS:
            self._append()
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                self._events.add_scalar(name, value, step)
        if self._hook is not None:
            del row["step"]
            self._call(self._hook, step, row)

    def keep(self) -> None:
        """In a bucket, rows that were to be written later are written now."""
        if self._rows:
            self._append()

    def close(self) -> None:
        """Flushes and closes both."""
        self._append()
        self._events.close()

    def _call(self, hook: Hook, step: int, values: dict[str, Any]) -> None:
        """Calls the hook; its first error is reported, and none ends the run."""
        try:
            hook(step, values)
        except (Exception, SystemExit) as error:
            if not self._hook_failed:
                self._hook_failed = True
                self._say(
                    f"metrics hook    failed at step {step:,} ({type(error).__name__}: {first_line(error)}); the run "
                    "goes on, and further errors from it are not reported"
                )

    def _append(self) -> None:
        append(self._path, "".join(self._rows).encode())
        self._rows.clear()
        self._written = time.monotonic()


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The rows of a working directory's metrics.jsonl, in order; a line cut short by a kill is left out."""
    path = workdir / METRICS_FILE
    return read_rows(path) if path.exists() else []


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | str) or value is None:
        return value
    number = float(value)
    # Six significant digits: enough for a curve, and a line stays readable.
    return float(f"{number:.6g}") if math.isfinite(number) else None


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

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out what is done within `with`."""
        started = time.perf_counter()
        yield
        self.pause(time.perf_counter() - started)

    def restart(self) -> None:
        """Forgets what was measured so far."""
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
        """Seconds a step, pauses spread over the steps: for the remaining time."""
        return (time.perf_counter() - self._started) / self._steps if self._steps else 0.0

    @property
    def wait_share(self) -> float:
        """Share of training time that went by waiting for data."""
        spent = self.seconds_per_step * self._steps
        return self._waited / spent if spent > 0 else 0.0
