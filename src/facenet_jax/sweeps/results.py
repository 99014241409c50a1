"""Reads the results of a sweep's points from their runs, and writes them as a table, a figure, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facenet_jax.config import as_saved, left_open, load_config
from facenet_jax.errors import InputError, first_line
from facenet_jax.runtime.files import write_whole
from facenet_jax.runtime.json_files import is_number, read_json
from facenet_jax.sweeps.figure import Measured, sweep_figure
from facenet_jax.sweeps.points import Point, Sweep
from facenet_jax.training.metrics import read_metrics
from facenet_jax.training.run_directory import REPORT_FILE, RUN_FILE, check_config, finished_report, read_run


@dataclass(frozen=True)
class Result:
    """The state and the results of a point.

    Attributes:
      point: the point.
      workdir: of its run.
      state: finished, begun, to do; or, after a sweep, sent, or failed with its exit code.
      step: of the report; None where it is not finished.
      rates: VAL at each FAR, as in report.json; empty where it is not finished.
      images_per_second: faces a second at the end of the run.
    """

    point: Point
    workdir: str
    state: str
    step: int | None = None
    rates: tuple[Mapping[str, Any], ...] = ()
    images_per_second: float | None = None

    def rate(self, far: float) -> Mapping[str, Any] | None:
        """VAL at a FAR, where it was measured and its pairs resolve it."""
        return next((r for r in self.rates if r["far"] == far and r["val"] is not None), None)


def result_of(sweep: Sweep, point: Point, workdir: Path) -> Result:
    """The state and the results of a point, by the report of its run.

    Raises:
      InputError: its folder holds a run with another config.
    """
    arguments = sweep.arguments(point)
    config = load_config(sweep.base, arguments)
    if not (workdir / RUN_FILE).exists():
        return Result(point, str(workdir), "to do")
    check_config(workdir, read_run(workdir)["config"], as_saved(config), left_open(sweep.base, arguments))
    if finished_report(workdir, config.steps) is None:
        return Result(point, str(workdir), "begun")
    file = workdir / REPORT_FILE
    try:
        report = read_json(file)
        rates = tuple(report["holdout"]["rates"])
        for rate in rates:
            wanted = ("far", "val", "standard_error") if rate["val"] is not None else ("far",)
            if not all(is_number(rate[name]) or (name, rate[name]) == ("standard_error", None) for name in wanted):
                raise ValueError("a rate is not a number")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} is damaged ({first_line(error)}): remove it, and the point is measured again."
        ) from error
    speeds = [speed for row in read_metrics(workdir) if (speed := row.get("images_per_second"))]
    return Result(
        point,
        str(workdir),
        "finished",
        step=report["step"],
        rates=rates,
        images_per_second=speeds[-1] if speeds else None,
    )


def format_plan(sweep: Sweep, results: list[Result]) -> str:
    """The list of points that is shown before any of them runs."""
    lines = [(r.point.name, " ".join(r.point.arguments), r.state) for r in results]
    widths = [max(len(line[i]) for line in lines) for i in range(2)]
    rows = [f"  {name:{widths[0]}}  {arguments:{widths[1]}}  {state}" for name, arguments, state in lines]
    given = f", with {' '.join(sweep.overrides)}" if sweep.overrides else ""
    return "\n".join([f"sweep {sweep.name}: {sweep.question}", f"{len(rows)} points over {sweep.base}{given}:", *rows])


def format_table(sweep: Sweep, results: list[Result]) -> str:
    """One line for each point; rates in percent, with their standard errors over the splits of the hold-out."""
    fars = _fars(results)
    heads = [sweep.axis, *(f"VAL at FAR {far:g}" for far in fars)]
    heads += ["paper, FAR 0.001"] if sweep.paper else []
    lines = [[*heads, "images/s", ""]]
    for result in results:
        cells = [result.point.name]
        for far in fars:
            rate = result.rate(far)
            measured = "too few pairs" if result.state == "finished" else ""
            cells.append(_percent(rate["val"], rate["standard_error"]) if rate else measured)
        if sweep.paper:
            cells.append(_percent(*sweep.paper[result.point.name]) if result.point.name in sweep.paper else "")
        speed = result.images_per_second
        lines.append([*cells, f"{speed:,.0f}" if speed else "", "" if result.state == "finished" else result.state])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    )


def write_results(sweep: Sweep, results: list[Result], folder: Path) -> list[Path]:
    """Writes sweep.json, sweep.csv and, where a point is finished, sweep.png; returns what it wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    points = [
        {
            "name": r.point.name,
            "overrides": r.point.overrides,
            "state": r.state,
            "step": r.step,
            "rates": list(r.rates),
            "images_per_second": r.images_per_second,
            "workdir": r.workdir,
        }
        for r in results
    ]
    content = {
        "sweep": sweep.name,
        "question": sweep.question,
        "base": sweep.base,
        "overrides": list(sweep.overrides),
        "paper": sweep.paper,
        "points": points,
    }
    written = [folder / "sweep.json", folder / "sweep.csv"]
    write_whole(written[0], json.dumps(content, indent=1) + "\n")
    _write_csv(results, written[1])
    measured = {
        far: [
            Measured(r.point.name, rate["val"], rate["standard_error"])
            for r in results
            if (rate := r.rate(far)) is not None
        ]
        for far in _fars(results)
    }
    if any(measured.values()):
        written.append(sweep_figure(sweep.question, sweep.axis, measured, folder / "sweep.png"))
    return written


def _write_csv(results: list[Result], path: Path) -> None:
    keys = list(dict.fromkeys(key for r in results for key in r.point.overrides))
    fars = _fars(results)
    measured = [f"{name}_far_{far:g}" for far in fars for name in ("val", "val_standard_error", "threshold")]
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["point", *keys, "state", "step", *measured, "images_per_second"])
    for r in results:
        values: list[Any] = []
        for far in fars:
            rate = r.rate(far) or {}
            values += [rate.get(name) for name in ("val", "standard_error", "threshold")]
        own = [r.point.overrides.get(key) for key in keys]
        rows.writerow([r.point.name, *own, r.state, r.step, *values, r.images_per_second])
    write_whole(path, text.getvalue())


def _fars(results: list[Result]) -> list[float]:
    return sorted({rate["far"] for r in results for rate in r.rates}, reverse=True)


def _percent(value: float, error: float | None) -> str:
    return f"{100 * value:.1f}" + ("" if error is None else f" ± {100 * error:.1f}")
