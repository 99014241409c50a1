"""Reads a sweep's file and its points.

A file in configs/sweeps/ begins with a docstring, whose first line is the question, and defines `points(base)`, which
takes the base config (locked) and yields (name, {config key: value}). It may define

  AXIS   the label of the figure's axis: what is swept;
  PAPER  {point's name: (VAL at FAR 0.001, its standard error or None)}, as printed in the paper.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facenet_jax.config import config_folders, load_config
from facenet_jax.config.load import find_file, mistake, run_file
from facenet_jax.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
      name: its name, and that of its folder.
      overrides: config keys and values that differ from the base.
    """

    name: str
    overrides: Mapping[str, Any]

    @property
    def arguments(self) -> list[str]:
        """The overrides as options of `facenet-jax train`: --config.loss.margin=0.1, and so on."""
        return [f"--config.{key}={_written(value)}" for key, value in self.overrides.items()]


@dataclass(frozen=True)
class Sweep:
    """A question and the runs that answer it.

    Attributes:
      name: the name of its file.
      question: the first line of the file's docstring.
      base: the config that all points start from: a file, or the name of one.
      overrides: given on the command line, for all points.
      points: in the order in which they run.
      axis: what is swept.
      paper: the paper's VAL at FAR 0.001 and its standard error, by the names of points.
    """

    name: str
    question: str
    base: str
    overrides: tuple[str, ...]
    points: tuple[Point, ...]
    axis: str
    paper: Mapping[str, tuple[float, float | None]]

    def arguments(self, point: Point) -> list[str]:
        """All overrides of a point: those for all points, then its own."""
        return [*self.overrides, *point.arguments]


def sweep_files() -> dict[str, Path]:
    """The sweeps that come with the package, by name."""
    return {file.stem: file for folder in config_folders() for file in sorted((folder / "sweeps").glob("*.py"))}


def load_sweep(name: str, base: str, overrides: list[str]) -> Sweep:
    """Reads a sweep's file, and checks the config of every point before any of them runs.

    Args:
      name: a path to the file, or the bare name of one that comes with the package.
      base: the config that all points start from.
      overrides: for all points: `--config.steps=100`, and so on.

    Raises:
      InputError: no such sweep or config, a mistake in the file, or a point whose config is invalid.
    """
    path = find_file(name, sweep_files(), "sweep", name)
    config = load_config(base, overrides)
    module = run_file(path, "sweep", str(path))
    if not callable(getattr(module, "points", None)):
        raise InputError(f"{path} defines no points(base); see the sweeps in configs/sweeps/.")
    try:
        points = tuple(Point(str(name), dict(values)) for name, values in module.points(config))
    except InputError:
        raise
    except Exception as error:
        raise mistake(f"{path}: points(base) ended in", error) from error
    question = (module.__doc__ or "").strip().split("\n")[0]
    axis, paper = getattr(module, "AXIS", path.stem), getattr(module, "PAPER", {})
    sweep = Sweep(path.stem, question, base, tuple(overrides), points, axis, paper)
    _check(sweep, path)
    return sweep


def _check(sweep: Sweep, path: Path) -> None:
    names = [point.name for point in sweep.points]
    if not sweep.question or not names:
        raise InputError(f"{path}: a sweep begins with a docstring that asks its question, and yields a point or more.")
    for name in names:
        if not _NAME.fullmatch(name) or names.count(name) > 1:
            raise InputError(
                f"{path}: a point is called {name!r}; names become folders: letters, digits, . _ and -, each once."
            )
    given = {override.removeprefix("--config.").partition("=")[0] for override in sweep.overrides}
    for point in sweep.points:
        both = sorted(given & set(point.overrides))
        if both:
            raise InputError(f"--config.{both[0]} is what the sweep {sweep.name} varies; leave it out.")
        try:
            load_config(sweep.base, sweep.arguments(point))
        except InputError as error:
            raise InputError(f"point {point.name} of the sweep {sweep.name}: {error}") from error


def _written(value: Any) -> str:
    """A value as the command line takes it; without spaces, so that it stays one word."""
    if isinstance(value, list | tuple):
        return "(" + ",".join(map(_in_a_tuple, value)) + ("," if len(value) == 1 else "") + ")"
    return str(value)


def _in_a_tuple(value: Any) -> str:
    return repr(value) if isinstance(value, str) else _written(value)
