"""Runs a sweep: lists its points, starts those that are not finished, writes the table of their results."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from etils import epath

from facenet_jax.errors import InputError
from facenet_jax.runtime.files import write_whole
from facenet_jax.runtime.json_files import read_json
from facenet_jax.runtime.output import CLOSED_PIPE
from facenet_jax.sweeps.launchers import Command, Runner, command_for
from facenet_jax.sweeps.points import Point, Sweep
from facenet_jax.sweeps.results import Result, format_plan, format_table, result_of, write_results

SENT_FILE = "sent.json"


def run_sweep(sweep: Sweep, workdir: str, launcher: str, *, again: bool = False, dry_run: bool = False) -> int:
    """Runs the points that are not finished, and writes the table, the figure and the files of all points.

    Args:
      sweep: as loaded.
      workdir: where each point gets a folder: `<workdir>/points/<name>`. With a launcher it may be one on gs://; the
        table and the figure then go to `runs/sweeps/<sweep>` on this machine.
      launcher: `local` runs the points here one after the other; the others send a job for each, and a later call
        collects their results.
      again: send jobs once more that were sent before and have not finished.
      dry_run: print the list and the commands only.

    Returns:
      0; 1 where a point failed; 128 + the signal that asked to stop.

    Raises:
      InputError: a folder holds a run with another config, or the launcher is missing.
    """
    if launcher == "local" and "://" in workdir:
        raise InputError(f"--workdir={workdir}: points that run here need a folder here; give one, or a --launcher.")
    folder = Path("runs/sweeps") / sweep.name if "://" in workdir else Path(workdir)
    sent = _Sent(folder / SENT_FILE)
    if launcher != "local" and "://" not in workdir:
        workdir = str(Path(workdir).resolve())  # the job starts in another folder
    results = [_result_of(sweep, point, workdir, sent) for point in sweep.points]
    commands = {r.point.name: command_for(sweep, r.point, r.workdir, launcher) for r in results}
    print(format_plan(sweep, results), flush=True)
    due = [r.point for r in results if r.state != "finished" and (again or not r.state.startswith("sent"))]
    if dry_run:
        for point in due:
            print(commands[point.name].typed)
        return 0

    failed: dict[str, int] = {}
    with Runner() as run:
        for number, point in enumerate(due, 1):
            print(f"\n--- {sweep.name}: {point.name} ({number} of {len(due)})", flush=True)
            code = _start(commands[point.name], run, point, sent)
            if run.asked is not None:
                break
            if code not in (0, CLOSED_PIPE):  # a point whose standard output was closed ran to its end nevertheless
                failed[point.name] = code
                print(f"--- {sweep.name}: {point.name} failed with exit code {code}", file=sys.stderr, flush=True)

    results = [_result_of(sweep, point, workdir, sent) for point in sweep.points]
    results = [
        replace(r, state=f"failed (exit code {failed[r.point.name]})") if r.point.name in failed else r for r in results
    ]
    written = write_results(sweep, results, folder)
    print(f"\n{sweep.question}\n{format_table(sweep, results)}")
    print("written         " + ", ".join(map(str, written)))
    if run.asked is not None:
        print("stopped; the same command resumes where it stopped", file=sys.stderr)
        return 128 + run.asked
    if failed:
        print(
            f"failed: {', '.join(failed)}. Their messages are above; the same command tries them again.",
            file=sys.stderr,
        )
        return 1
    return 0


class _Sent:
    """The names of the points for which a job was sent, kept in a file so that none is sent twice."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self.names: list[str] = read_json(file)
        except FileNotFoundError:
            self.names = []
        except (OSError, ValueError) as error:
            raise InputError(f"{file} cannot be read ({error}); fix or remove it.") from error

    def add(self, name: str) -> None:
        if name not in self.names:
            self.names.append(name)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.file, json.dumps(self.names) + "\n")


def _start(command: Command, run: Runner, point: Point, sent: _Sent) -> int:
    code = run(command)
    if not command.waits and code == 0:
        sent.add(point.name)
    return code


def _result_of(sweep: Sweep, point: Point, workdir: str, sent: _Sent) -> Result:
    path: Any = epath.Path if "://" in workdir else Path
    try:
        result = result_of(sweep, point, path(workdir) / "points" / point.name)
    except ImportError as error:  # the package for that kind of storage is not a dependency
        raise InputError(f"--workdir={workdir} cannot be reached: {error}; install it next to facenet-jax.") from error
    if result.state != "finished" and point.name in sent.names:
        return replace(result, state=f"sent, {result.state}" if result.state == "begun" else "sent")
    return result
