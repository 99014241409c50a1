"""Measures whole runs of `facenet-jax train` on drawn faces: their speed, and whether a repeated run is the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.lines import ROOT, Refused
from facenet_jax.runtime.checkpoints import FINGERPRINT, FOLDER
from facenet_jax.training.metrics import read_metrics

# Seconds between two looks at a run that is to be killed.
_LOOK = 0.02
_FIGURES = ("loss", "gradient_norm", "spread")


class Commands:
    """Runs `facenet-jax` commands until a deadline."""

    def __init__(self, left: Callable[[], float], variables: Mapping[str, str]) -> None:
        """Takes how many seconds are left, and variables of the environment beyond this process's own."""
        self._left, self._variables = left, dict(variables)

    def run(
        self,
        *arguments: str,
        log: Path,
        variables: Mapping[str, str] | None = None,
        until: Callable[[], bool] | None = None,
    ) -> float:
        """Runs a command with its workers; returns the seconds that it took.

        Args:
          arguments: of `facenet-jax`.
          log: a file for what it prints.
          variables: of the environment, for this command alone.
          until: the command is killed (SIGKILL) as soon as this is true.

        Raises:
          Refused: it failed, there is no time left, or it ended before it was killed.
        """
        started, environment = time.perf_counter(), os.environ | self._variables | dict(variables or {})
        environment["PYTHONPATH"] = str(ROOT / "src")
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "facenet_jax", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    if self._left() <= 0:
                        raise Refused("no time left")
                    if until is not None and until():
                        return time.perf_counter() - started
                    time.sleep(_LOOK)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if process.returncode:
            raise Refused(f"failed: {(log.read_text().strip().splitlines() or ['nothing said'])[-1]}")
        if until is not None:
            raise Refused("ended before it was killed")
        return time.perf_counter() - started


def end_to_end(commands: Commands, options: list[str], workdir: Path) -> dict[str, Any]:
    """Images a second of a run, the share that was spent waiting for faces, and seconds from start to end."""
    seconds = commands.run("train", f"--workdir={workdir}", *options, log=workdir.with_suffix(".log"))
    last = [row for row in read_metrics(workdir) if "images_per_second" in row][-1]
    return {name: last[name] for name in ("images_per_second", "wait_share")} | {"run_seconds": seconds}


def same_again(commands: Commands, options: list[str], steps: int, folder: Path) -> dict[str, Any]:
    """A run, and the same command again: with the compiled program kept, killed and resumed, and compiled again.

    Args:
      commands: starts commands, which share a cache of compiled programs.
      options: of `train`; a line of metrics is written for every step.
      steps: of the run; it saves at a quarter and is killed past that.
      folder: for the working directories.

    Returns:
      For each: seconds, whether the last checkpoint has the first run's bits, and the first step whose figures differ;
      or the reason why it could not be compared.
    """
    every = max(1, steps // 4)
    train = [*options, f"--config.steps={steps}", "--config.log.every=1", f"--config.checkpoint.every={every}"]

    def run(name: str, variables: Mapping[str, str] | None = None) -> float:
        return commands.run(
            "train", f"--workdir={folder / name}", *train, log=folder / f"{name}.log", variables=variables
        )

    def kill_and_resume() -> float:
        workdir = folder / "resumed"
        killed = commands.run(
            "train",
            f"--workdir={workdir}",
            *train,
            log=folder / "killed.log",
            until=lambda: is_saved(workdir, every),
        )
        return killed + run("resumed")

    found: dict[str, Any] = {"first": {"seconds": run("first")}}
    for name, again in {
        "again": lambda: run("again"),
        "resumed": kill_and_resume,
        "compiled_again": lambda: run("compiled_again", {"JAX_ENABLE_COMPILATION_CACHE": "false"}),
    }.items():
        try:
            found[name] = {"seconds": again()} | compared(folder / "first", folder / name, steps)
        except Refused as error:
            found[name] = {"refused": str(error)}
    return found


def is_saved(workdir: Path, step: int) -> bool:
    """Whether the checkpoint of a step is whole."""
    return _fingerprint(workdir, step).exists()


def compared(first: Path, other: Path, steps: int) -> dict[str, Any]:
    """Whether two runs ended with the same bits, and the first step whose figures differ (to six digits), if any."""
    same = _fingerprint(first, steps).read_bytes() == _fingerprint(other, steps).read_bytes()
    mine, theirs = ({row["step"]: row for row in read_metrics(run) if "loss" in row} for run in (first, other))
    parted = (
        step
        for step, row in mine.items()
        if any(row[figure] != theirs.get(step, {}).get(figure) for figure in _FIGURES)
    )
    return {"same_bits": same, "parts_at": next(parted, None)}


def _fingerprint(workdir: Path, step: int) -> Path:
    # A checkpoint gets its name only when it is complete.
    return workdir / FOLDER / str(step) / FINGERPRINT / "metadata"
