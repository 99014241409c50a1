"""Runs the recipe for a number of minutes and judges it on people set aside: for `reproduce` and `networks`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ml_collections import ConfigDict

from benchmarks.ending import Ended
from benchmarks.set_aside import SetAside, chosen_people, set_aside
from facenet_jax import models
from facenet_jax.config import load_config
from facenet_jax.datasets.folder import FolderSource
from facenet_jax.datasets.open import open_dataset
from facenet_jax.datasets.prepared import PreparedSource
from facenet_jax.errors import InputError
from facenet_jax.evaluation.protocols.lfw import read_lfw_pairs
from facenet_jax.runtime.files import locked, write_whole
from facenet_jax.sweeps.launchers import Command, Runner
from facenet_jax.training.metrics import read_metrics
from facenet_jax.training.run_directory import read_run

ALIGNED = "aligned112"
_TRAIN_PAIRS, TEST_PAIRS = "pairsDevTrain.txt", "pairsDevTest.txt"
# Steps of the trial: a few first, then as many as fit into a minute, at most 30.
_FIRST_STEPS, _TRIAL_STEPS = 4, 30
# With more steps than its own the recipe overfits so many faces (docs/experiments/longer_runs.md); with more faces it
# may take more, in proportion.
_FACES = 23_654
_ASKED, _LOCK = "asked.json", ".lock"
# The file with the number of steps that a trial led to.
STEPS = "steps.json"
# Config keys that are set here.
_OURS = ("steps", "seed", "data.path", "data.mixture", "data.exclude", "eval.path", "eval.every", "checkpoint.every")


@dataclass
class Task:
    """The data to train on, the time to train for, and the folder for the results.

    Attributes:
      data: a folder `<identity>/<image>`, or a prepared dataset.
      out: the folder for all results.
      minutes: of training.
      config: the recipe.
      overrides: `--config.…` options.
      lfw: LFW's development view, or None.
      run: starts commands.
      own_steps: whether the recipe takes no more steps than its own, however many fit into the minutes.
      steps: of training, in place of the minutes.
      own: options that some runs get before the overrides, a list for each such run.
      source, aside: all faces, and the people set aside; set when the task is entered, which also locks `out`.
    """

    data: Path
    out: Path
    minutes: float
    config: str
    overrides: list[str]
    lfw: Path | None
    run: Runner
    own_steps: bool = False
    steps: int | None = None
    own: Sequence[list[str]] = ([],)
    source: FolderSource | PreparedSource = field(init=False)
    aside: SetAside = field(init=False)
    _lock: IO[str] = field(init=False, repr=False)

    def __enter__(self) -> Task:
        """Checks all options and sets people aside, before any training.

        Raises:
          InputError: an option is wrong, `out` holds runs with others, or another process works in it.
        """
        if self.steps is not None and self.steps < 2:
            raise InputError(f"--steps={self.steps}: give a number above 1.")
        if not (math.isfinite(self.minutes) and self.minutes > 0):
            raise InputError(f"--minutes={self.minutes:g}: give a number above 0.")
        for option in self.overrides:
            if not option.startswith("--config."):
                raise InputError(f"{option}: not understood; options of the config are --config.KEY=VALUE.")
            if (key := option.removeprefix("--config.").partition("=")[0]) in _OURS:
                raise InputError(f"{option}: config.{key} is chosen here; leave it out.")
        for own in self.own:
            models.from_config(load_config(self.config, [*own, *self.overrides]).model)
        if self.lfw is not None:
            if not (self.lfw / ALIGNED).is_dir():
                raise InputError(f"--lfw={self.lfw} has no folder {ALIGNED}; give LFW's development view.")
            for name in (_TRAIN_PAIRS, TEST_PAIRS):
                read_lfw_pairs(self.lfw / name)
        self.source = open_dataset(self.data)
        people = chosen_people(self.source)
        asked = {
            "data": self.source.digest,
            "minutes": None if self.steps else self.minutes,
            "steps": self.steps,
            "config": f"{self.config}, no more than its own steps" if self.own_steps else self.config,
            "overrides": sorted(self.overrides),
        }
        file = self.out / _ASKED
        if file.exists():
            before = kept(file)
            other = [key for key, value in asked.items() if before.get(key) != value]
            # Of minutes and steps one is None: the message names the one that the runs there had.
            for key in (key for key in other if before.get(key) is not None):
                was = "other faces" if key == "data" else f"{key} {before[key]}"
                raise InputError(f"--out={self.out} holds runs with {was}; give another --out, or remove it.")
        elif self.out.exists() and not self.out.is_dir():
            raise InputError(f"--out={self.out} is a file; give a folder.")
        elif self.out.exists() and any(path.name != _LOCK for path in self.out.iterdir()):
            raise InputError(f"--out={self.out} holds other things; give a folder of its own.")
        self.out.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = locked(self.out / _LOCK)
        except BlockingIOError as error:
            raise InputError(
                f"another process is at work in --out={self.out}; wait for it, or give another."
            ) from error
        try:
            if not file.exists():
                write_whole(file, json.dumps(asked, indent=1) + "\n")
            self.aside = set_aside(self.source, people, self.out)
        except BaseException:
            self._lock.close()
            raise
        bad = f"; {self.aside.bad:,} of their faces cannot be decoded" if self.aside.bad else ""
        print(f"set aside       {self.aside.people} people ({self.aside.names}){bad}", file=sys.stderr, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def facenet(self, *arguments: str) -> None:
        """Runs `facenet-jax`.

        Raises:
          Ended: it failed, or was asked to stop.
        """
        self.start([sys.executable, "-m", "facenet_jax", *arguments])

    def start(self, words: list[str], **environment: str) -> None:
        """Runs any command; raises Ended as `facenet` does."""
        code = self.run(Command(words, "", environment))
        if code or self.run.asked is not None:
            raise Ended(code or 128 + (self.run.asked or 0))


def train(task: Task, folder: Path, seed: int, more: Sequence[str] = ()) -> Path:
    """Trains by the recipe for the task's steps, or for as many as fit into its minutes by a trial; returns the run.

    How many fit depends on the machine. Warm-up and the fall of the rate keep their shares of `config.steps`. `more`
    are options before the task's own.

    Raises:
      Ended: training failed, or was asked to stop.
    """
    options = [
        f"--config.data.path={task.data}",
        f"--config.data.exclude={task.aside.names}",
        f"--config.eval.path={task.aside.folder}",
        "--config.eval.every=0",
        f"--config.seed={seed}",
        *more,
        *task.overrides,
    ]
    config = load_config(task.config, [*more, *task.overrides])
    steps, fit = task.steps, 0
    if steps is None:
        steps, fit = _fitting(task, folder, options, config)
    more_fit = f" of {fit:,} that fit: with more, it overfits; --config={task.config} takes all" if fit > steps else ""
    print(f"recipe          {task.config}, {steps:,} steps{more_fit}", file=sys.stderr, flush=True)
    schedule = [
        f"--config.optimizer.{key}={config.optimizer[key] * steps // config.steps}"
        for key in ("finalise_steps", "warmup_steps")
    ]
    run = folder / f"recipe-{seed}"
    task.facenet("train", f"--workdir={run}", f"--config={task.config}", *options, *schedule, *_steps(steps, saves=10))
    return run


def _fitting(task: Task, folder: Path, options: list[str], config: ConfigDict) -> tuple[int, int]:
    """How many steps to take, and how many fit into the task's minutes; found once for a folder."""
    file = folder / STEPS
    if not file.exists():
        base = [f"--config={task.config}", *options]
        rate = _trial(task, folder, base, _FIRST_STEPS)
        of_a_minute = min(int(60 * rate), _TRIAL_STEPS)
        if of_a_minute > _FIRST_STEPS:
            rate = _trial(task, folder, base, of_a_minute)
        steps = fit = max(int(task.minutes * 60 * rate), 2)
        if task.own_steps:
            steps = min(fit, int(config.steps * max(task.source.index.records / _FACES, 1.0)))
        write_whole(file, json.dumps({"steps": steps, "fit": fit, "steps_per_second": rate}) + "\n")
    found = kept(file)
    return found["steps"], found["fit"]


def _trial(task: Task, folder: Path, base: list[str], steps: int) -> float:
    """Steps a second. It saves only at the end, since saving would overlap with the steps that are timed."""
    workdir = folder / f"trial-{steps}"
    constant = ["--config.optimizer.finalise_steps=0", "--config.optimizer.warmup_steps=0"]
    task.facenet("train", f"--workdir={workdir}", *base, *constant, *_steps(steps, saves=1), "--config.log.every=1")
    return _last_rate(workdir) / _batch(workdir)


def _steps(steps: int, saves: int) -> list[str]:
    return [f"--config.steps={steps}", f"--config.checkpoint.every={max(steps // saves, 1)}"]


def kept(file: Path) -> Any:
    """The content of a JSON file of an earlier call.

    Raises:
      InputError: it is damaged.
    """
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error}); remove it, and it is made again.") from error


def seen(run: Path) -> dict[str, float]:
    """Faces that a finished run has seen, and its minutes by its last rate, without evaluations."""
    images, rate = read_metrics(run)[-1]["step"] * _batch(run), _last_rate(run)
    return {"images": images, "images_per_second": rate, "minutes": images / rate / 60}


def _batch(run: Path) -> int:
    """Faces in a batch of a run, which has fewer than its recipe if there are few people."""
    return int(read_run(run)["config"]["batch.size"])


def _last_rate(run: Path) -> float:
    """Images a second."""
    return float([row["images_per_second"] for row in read_metrics(run) if "images_per_second" in row][-1])


def judged(task: Task, name: str) -> Path:
    """The folder for the results of `judge`."""
    return task.out / "judged" / name


def judge(task: Task, name: str, reserved: Path, lfw: Path | None) -> dict[str, Any]:
    """VAL on the people set aside and accuracy on LFW of a run or of files of embeddings, with standard errors.

    Embeddings are kept, and used again if neither the network nor the faces have changed.

    Raises:
      Ended: an evaluation failed, or was asked to stop.
    """
    out = judged(task, name)
    for file in out.glob("*.json"):  # if the faces were moved, `evaluate` would keep the old file next to the new one
        file.unlink()
    task.facenet("evaluate", "holdout", f"--embedder={reserved}", f"--data={task.aside.folder}", f"--out={out}")
    result = kept(out / "holdout.json")["embedders"][0]["result"]
    rates = [rate for rate in result["rates"] if rate["val"] is not None]
    found = {f"val_far_{rate['far']:g}": rate["val"] for rate in rates}
    errors = {f"val_far_{rate['far']:g}": rate["standard_error"] for rate in rates}
    if result.get("smallest_far") is not None:  # few people
        found |= {key: result[key] for key in ("area", "equal_error_rate")}
    if task.lfw is not None and lfw is not None:
        pairs = [
            f"--data={task.lfw / ALIGNED}",
            f"--pairs={task.lfw / TEST_PAIRS}",
            f"--threshold-pairs={task.lfw / _TRAIN_PAIRS}",
        ]
        task.facenet("evaluate", "lfw", f"--embedder={lfw}", *pairs, f"--out={out}")
        result = kept(out / "lfw-view1.json")["embedders"][0]["result"]
        found["lfw_accuracy"], errors["lfw_accuracy"] = result["accuracy"], result["standard_error"]
    return found | {"standard_errors": errors}


def heads_of(rows: Sequence[dict[str, Any]], heads: dict[str, str]) -> dict[str, str]:
    """The headings of a table for which rows have figures, and others for those that few people give instead."""
    there = {key for row in rows for key in row}
    fars = sorted(float(key.removeprefix("val_far_")) for key in there if key.startswith("val_far_"))
    few = {f"val_far_{far:g}": f"VAL at FAR {far:g}" for far in reversed(fars) if f"val_far_{far:g}" not in heads}
    few |= {"area": "area under the ROC curve", "equal_error_rate": "equal error rate"}
    return {key: head for key, head in (heads | few).items() if key in there}


def percent(row: dict[str, Any], key: str) -> str:
    """A figure of `judge` with its standard error, if it has one; a dash if there is no figure."""
    if key not in row:
        return "-"
    error = row["standard_errors"].get(key)
    return f"{row[key]:.1%}" + ("" if error is None else f" ± {100 * error:.1f}")
