"""Kills commands at random moments, runs them again, and compares the results with those of commands never killed.

The moment is drawn from the time in which a warm command (whose programs were compiled before) works: from its first
file to its end. Every other kill of `train` comes within 0.3 s after a checkpoint was begun.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.storm_readers import reading

_TINY = [
    "--config=quickstart",
    "--config.model.input_size=32,32",
    "--config.model.embedding_size=64",
    "--config.batch.size=16",
    "--config.batch.faces_per_identity=4",
    "--config.optimizer.finalise_steps=0",
    "--config.eval.every=0",
    "--config.eval.batch=240",
    "--config.eval.drawn_identities=60",
    "--config.eval.max_faces_per_identity=4",
    "--config.data.drawn.identities=20",
    "--config.data.drawn.faces_per_identity=6",
    "--config.checkpoint.every=2",
    "--config.log.every=1",
    "--config.data.workers=0",
    "--config.steps=12",
]


class Job(NamedTuple):
    """A command that is killed.

    Attributes:
      name: its name.
      arguments: its arguments, with `{out}` for the folder or file that it writes.
      end: reads the result that must be the same as without a kill.
      saves: a pattern of files that exist only while it saves.
    """

    name: str
    arguments: list[str]
    end: Callable[[Path], Any]
    saves: str = ""


def storm_of_kills(kills: int, seed: int, only: Sequence[str] = ()) -> int:
    """Kills each command a number of times, and prints the results.

    Args:
      kills: of each command.
      seed: of the moments.
      only: the names of the commands; empty: all. `train` runs at least once, for its network.

    Returns:
      How many times the result was another.
    """
    # Imported here, before the forks, so that most kills come during the commands' own work.
    import orbax.checkpoint  # noqa: F401

    import facenet_jax.cli  # noqa: F401

    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(place / "compiled"))
        _people(place / "gallery", 12, 5)
        network = place / "train-whole"
        train, *others = _jobs(place, network)
        for turn, job in enumerate((train, *others, train)):  # first for the network; its kills take longest
            whole = place / f"{job.name}-whole{_suffix(job)}"
            if not whole.exists() and _run(job, whole) != 0:
                raise RuntimeError(f"{job.name} fails without being killed")
            if turn == 0 or (only and job.name not in only):
                continue
            rng = random.Random(f"{seed}/{job.name}")
            again = place / f"{job.name}-again{_suffix(job)}"  # the first may have compiled
            _run(job, again)
            seconds, expected = _seconds_of_work(job, place / f"{job.name}-timed{_suffix(job)}"), _end(job, whole)
            counts: Counter[str] = Counter()
            for number in range(kills):
                out = place / f"{job.name}-{number}{_suffix(job)}"
                saving = job.saves if number % 2 else ""
                after = rng.uniform(0, 0.3 if saving else seconds)
                found = _kill(job, out, saving, rng.randint(1, 5) if saving else 1, after)
                if found == "ended":  # `cluster` refuses a finished folder
                    counts.update([found])
                    continue
                code = _run(job, out)
                other = code != 0 or _end(job, out) != expected
                counts.update([found, *(["other"] if other else [])])
                if other:
                    when = "a save was begun" if saving else "its first file"
                    print(f"seed {seed}: {job.name} number {number}, killed {after:.3f} s after {when}: code {code}")
                shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
            bad += counts["other"]
            struck = counts["killed"] + counts["saving"]
            print(
                f"{job.name:<10}{seconds:>7.1f} s of work  {kills:>4} runs  {struck:>4} killed, {counts['saving']:>4} "
                f"of them while it saved  {counts['other']:>4} other ends",
                flush=True,
            )
    return bad


def _jobs(place: Path, network: Path) -> list[Job]:
    gallery, of = str(place / "gallery"), ["--embedder", str(network)]
    return [
        Job("train", ["train", *_TINY, "--workdir={out}"], _end_of_run, "checkpoints/*.orbax-checkpoint-tmp*"),
        Job("prepare", ["prepare", gallery, "{out}", "--crop=none", "--workers=0"], _end_of_dataset),
        Job("embed", ["embed", gallery, "-o", "{out}", "--crop=none", *of], _end_of_table),
        Job("enroll", ["enroll", gallery, "{out}", "--crop=none", *of], _end_of_index),
        Job("cluster", ["cluster", gallery, "--out", "{out}", "--crop=none", "--people=12", *of], _end_of_people),
    ]


def _suffix(job: Job) -> str:
    return ".npz" if job.name == "embed" else ""


def _start(job: Job, out: Path) -> int:
    """Starts a command in a process of its own; returns its id."""
    child = os.fork()
    if not child:
        from facenet_jax.cli import main

        null = os.open(os.devnull, os.O_RDWR)
        log = os.open(f"{out}.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        for number, file in enumerate((null, log, log)):
            os.dup2(file, number)
        code = 70
        try:
            code = main([argument.replace("{out}", str(out)) for argument in job.arguments]) or 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return child


def _run(job: Job, out: Path) -> int:
    """Runs a command without killing it; returns its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(_start(job, out), 0)[1])


def _seconds_of_work(job: Job, out: Path) -> float:
    """Runs a command; returns the seconds from its first file to its end."""
    child, began = _start(job, out), 0.0
    while not os.waitpid(child, os.WNOHANG)[0]:
        began = began or (time.monotonic() if _begun(job, out) else 0.0)
        time.sleep(0.002)
    return time.monotonic() - began


def _begun(job: Job, out: Path) -> bool:
    """Whether a command's first file exists: its output, or a temporary file next to it."""
    return out.exists() or any(out.parent.glob(f".{out.name}*"))


def _kill(job: Job, out: Path, saving: str, nth: int, after: float) -> str:
    """Kills a command some seconds after its first file or its nth save; returns "killed", "saving" or "ended"."""
    child = _start(job, out)
    seen: set[Path] = set()
    while not os.waitpid(child, os.WNOHANG)[0]:
        if saving:
            seen.update(out.glob(saving))
        if len(seen) >= nth if saving else _begun(job, out):
            break
        time.sleep(0.002)
    else:
        return "ended"
    until = time.monotonic() + after
    while time.monotonic() < until:
        if os.waitpid(child, os.WNOHANG)[0]:
            return "ended"
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "saving" if job.saves and any(out.glob(job.saves)) else "killed"


def _end(job: Job, out: Path) -> str:
    """A digest of a command's result; computed in a child process, since this one cannot fork after using JAX."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(theirs, reading(job.end(out)).encode())
        except Exception as error:
            os.write(theirs, f"{type(error).__name__}: {error}".encode()[:1000])
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        found = answer.read()
    os.waitpid(child, 0)
    return found


def _people(root: Path, people: int, faces: int) -> None:
    from facenet_jax.datasets.drawn import render

    for identity in range(people):
        (root / f"p{identity:02d}").mkdir(parents=True)
        for exemplar in range(faces):
            Image.fromarray(render(7, identity, exemplar, (48, 48))).save(root / f"p{identity:02d}" / f"{exemplar}.png")


def _end_of_run(workdir: Path) -> Any:
    from facenet_jax.runtime.checkpoints import Checkpoints
    from facenet_jax.runtime.checksum import fingerprint
    from facenet_jax.training.metrics import read_metrics

    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        steps = checkpoints.steps()
        of_last = fingerprint(checkpoints.restore_params(steps[-1]))
    finally:
        checkpoints.close()
    losses = {row["step"]: row["loss"] for row in read_metrics(workdir) if "loss" in row}
    holdout = json.loads((workdir / "report.json").read_text())["holdout"]
    return steps[-1], of_last, losses, json.dumps(holdout, sort_keys=True)


def _bytes(root: Path, *without: str) -> Any:
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*"))
        if file.is_file() and not file.name.startswith((".lock", *without))
    }


def _end_of_dataset(out: Path) -> Any:
    return _bytes(out, "identities.png")


def _end_of_index(root: Path) -> Any:
    from facenet_jax.recognition.index_files import load_index

    index = load_index(root)
    return index.people, index.files, index.person.tolist(), index.contents.tobytes(), _bytes(root, "faces", "index")


def _end_of_table(file: Path) -> Any:
    with np.load(file) as arrays:
        return {name: (array.shape, array.tobytes()) for name, array in arrays.items()}


def _end_of_people(out: Path) -> Any:
    return {name for name in _bytes(out) if not name.startswith(".")}
