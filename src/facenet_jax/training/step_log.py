"""Writes metrics, the progress line, evaluations and collapse warnings of a run."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from facenet_jax.evaluation.holdout import HoldoutResult, format_evaluation
from facenet_jax.input.bad_files import FILE_NAME
from facenet_jax.runtime.hosts import is_first, wait_for_all
from facenet_jax.runtime.progress import Progress, duration
from facenet_jax.training.evaluator import val_metrics
from facenet_jax.training.figures import Figures
from facenet_jax.training.health import check_finite, collapse_words, has_collapsed
from facenet_jax.training.metrics import Clock, Hook, Metrics, MetricsWriter, NoMetrics, read_metrics
from facenet_jax.training.offline_selection import HardFacesFound


class StepLog:
    """The log of a run from a step on; rows of later steps, written before it was restored, are cut off.

    Process 0 alone writes, and calls the hook.

    Attributes:
      clock: training time, pauses left out.
      evaluated: whether VAL at the first step is logged already, as where a run was asked to stop before it was saved.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        first_step: int,
        progress: Progress,
        figures: Figures,
        hook: Hook | None = None,
    ) -> None:
        # A fresh run where another ended before its first checkpoint drops that one's step 0 too.
        from_step = first_step or -1
        before = [row for row in read_metrics(workdir) if row["step"] <= from_step]
        wait_for_all("metrics are read")
        self._metrics: Metrics = MetricsWriter(workdir, from_step, hook, progress.say) if is_first() else NoMetrics()
        self._config = config
        self._progress = progress
        self._figures = figures
        self._most_spread = max((row.get("spread") or 0.0 for row in before), default=0.0)  # of any step so far
        self._warned = False
        self._first = True
        self.evaluated = any(row["step"] == from_step and "val_far_0.01" in row for row in before)
        self.clock = Clock(config.batch.size)

    def step(self, step: int, waited: float, begins: bool) -> None:
        """Logs a step that was sent if it is due, which waits for it.

        Args:
          step: counted from 1.
          waited: seconds spent waiting for its batch.
          begins: whether it is the first of a loader, which waits for workers to start: that is a pause.

        Raises:
          TrainingError: see `look`.
        """
        config, clock = self._config, self.clock
        due = step % config.log.every == 0 or begins or step in (1, config.steps)
        values = self.look() if due else {}
        if begins:
            clock.pause(waited)
        clock.step_done(0.0 if begins else waited)
        if self._first:
            clock.restart()  # the first step also starts up what starts only once
            self._first = False
        if due:
            if clock.seconds_per_step:
                values |= {"images_per_second": clock.images_per_second, "wait_share": clock.wait_share}
            self._metrics.write(step, values)
            self._progress.line(self._progress_line(step, values))

    def look(self) -> dict[str, float]:
        """Reads the figures of the steps since the last time; warns of the first collapse. Returns the last step's.

        Raises:
          TrainingError: the loss or the gradient of a step is not finite; it names the first.
        """
        values: dict[str, float] = {}
        for step, values in self._figures.read():
            check_finite(values, step)
            if has_collapsed(values["spread"], self._most_spread) and not self._warned:
                self._warned = True
                self._progress.say(collapse_words(step, values, self._most_spread, self._config))
            self._most_spread = max(self._most_spread, values["spread"])
        return values

    def evaluation(self, step: int, result: HoldoutResult, left_out: int) -> None:
        """Logs VAL; `left_out` faces could not be decoded."""
        self._metrics.write(step, val_metrics(result))
        self._progress.say(f"step {step:,}: {format_evaluation(result)}")
        if left_out:
            self._progress.say(f"  faces left out, as they cannot be decoded: {left_out:,} ({FILE_NAME})")

    def hard_faces(self, step: int, found: HardFacesFound, seconds: float) -> None:
        """Logs what a new table of hard faces says."""
        self._metrics.write(step, found.metrics() | {"offline_seconds": seconds})
        self._progress.say(found.describe(step))

    def keep(self) -> None:
        """To be called before a checkpoint is saved: a run resumed from it has the rows up to it."""
        self._metrics.keep()

    def close(self) -> None:
        """Writes what is still to be written."""
        self._metrics.close()

    def _progress_line(self, step: int, values: dict[str, float]) -> str:
        clock = self.clock
        # A narrow terminal cuts the end, so what matters least stands there.
        text = f"step {step:,}/{self._config.steps:,}  loss {values['loss']:.4f}  active {values['active_share']:.0%}"
        if clock.seconds_per_step:
            left = duration((self._config.steps - step) * clock.seconds_per_step_with_pauses)
            text += f"  {clock.images_per_second:,.0f} images/s  waiting {clock.wait_share:.0%}  {left} to go"
        return f"{text}  spread {values['spread']:.3f}"
