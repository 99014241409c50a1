"""Measures the cost of a face in training on a CPU: our networks, in parts or at once, compared with NN4 in PyTorch.

    python -m benchmarks.step                     (or `make bench-step`)
    python -m benchmarks.step --turns 2
    python -m benchmarks.step --recipe --beside ../other

It times a network's embeddings of a batch of random images at 96x96 and the gradient of their weighted sum: a step
without selection, loader and optimiser. Contenders are processes that take turns on all processors; figures are medians
of the turns. The peer is NN4 with batch normalisation, channels last, as PyTorch's users would write it.

With --recipe it times whole runs of `facenet-jax train --config=recipe_cpu` on JPEGs of drawn faces, with the recipe's
random changes and without any, by this checkout and by another one, each with its own recipe, which take turns:
processor seconds, with those of the loader's processes, and elapsed seconds of some steps after the first few.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.lines import ROOT, Child, Refused
from benchmarks.loader import draw
from benchmarks.machine import describe_machine, in_words
from benchmarks.peers.environment import peers_python
from benchmarks.peers.table import table_2
from facenet_jax.config import load_config
from facenet_jax.training.metrics import read_metrics

FACES = {"nns2": 360, "nns1": 240, "nn4": 120}
# Forms of our own step: (rows in parts, memory in huge pages); `facenet-jax train` has the last.
FORMS = {"at once": (False, "0"), "in parts": (True, "0"), "in parts, huge pages (as `train` does)": (True, "1")}
PEER = "PyTorch, batch norm"
_MEMORY = 2**36  # limit of address space, higher than any use
_TIMEOUT = 900.0
# With --recipe: people, faces of each, and steps before the timed ones.
_PEOPLE, _FACES_OF_EACH, _WARM = 80, 15, 4
_LOOK = 0.02  # seconds between two looks at a run


def measure(network: str, turns: int, python: Path | None) -> dict[str, list[float]]:
    """Seconds a face of every contender, by turn.

    Args:
      network: one of FACES.
      turns: how many; each is one step.
      python: of the peers' environment; None: without them.
    """
    faces = FACES[network]
    seconds: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        children = {}
        limits: dict[str, Any] = {"threads": len(os.sched_getaffinity(0)), "memory": _MEMORY}
        for form, (in_parts, huge) in FORMS.items():
            variables = {"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={huge}"}
            child = Child(sys.executable, "benchmarks.step_child", **limits, variables=variables)
            children[form] = stack.enter_context(child)
            child.ask(_TIMEOUT, "prepare", network=network, faces=faces, in_parts=in_parts)
        if python is not None and network == "nn4":
            peer = stack.enter_context(Child(python, "benchmarks.peers.step", **limits))
            peer.ask(_TIMEOUT, "prepare", table=table_2(), faces=faces)
            children[PEER] = peer
        for _ in range(turns):
            for name, child in children.items():
                taken = child.ask(_TIMEOUT, "run", calls=1)["seconds"]
                seconds.setdefault(name, []).append(taken / faces)
    return seconds


def report(found: dict[str, dict[str, list[float]]]) -> str:
    """Markdown; ratios are medians of ratios within a turn."""
    lines = ["| network | faces | | faces a second | at once = 1 |", "|---|---|---|---|---|"]
    for network, of_forms in found.items():
        base = of_forms["at once"]
        for form, seconds in of_forms.items():
            ratio = statistics.median(a / b for a, b in zip(base, seconds, strict=True))
            rate = 1 / statistics.median(seconds)
            lines.append(f"| {network.upper()} | {FACES[network]} | {form} | {rate:,.0f} | {ratio:.2f} |")
    return "\n".join(lines)


def measure_recipe(turns: int, steps: int, beside: Path | None) -> dict[str, list[dict[str, float]]]:
    """The time of a step of the recipe by each contender, by turn: see `_recipe_step`.

    Args:
      turns: how many; each is a run.
      steps: how many are timed.
      beside: another checkout; None: only this one.
    """
    augment = load_config("recipe_cpu", []).data.augment
    unchanged = ["--config.data.flip=False", *(f"--config.data.augment.{name}=0" for name in augment)]
    checkouts = {"here": ROOT} | ({"beside": beside.resolve()} if beside else {})
    contenders = {
        f"{name}, {words}": (checkout, options)
        for name, checkout in checkouts.items()
        for words, options in (("no changes", unchanged), ("the recipe's changes", []))
    }
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        faces = Path(folder) / "faces"
        draw(faces, 112, _PEOPLE, _FACES_OF_EACH)
        for turn in range(turns):
            for number, (name, (checkout, options)) in enumerate(contenders.items()):
                workdir = Path(folder) / f"{turn}-{number}"
                taken = _recipe_step(checkout, [f"--config.data.path={faces}", *options], steps, workdir)
                found.setdefault(name, []).append(taken)
                print(f"{name:32} " + ", ".join(f"{each:.2f} {unit}" for unit, each in taken.items()), flush=True)
    return found


def _recipe_step(checkout: Path, options: list[str], steps: int, workdir: Path) -> dict[str, float]:
    """Processor seconds and elapsed seconds of a step, of a run that is killed after the timed steps.

    Raises:
      Refused: the run ended by itself.
    """
    arguments = [f"--config={checkout / 'configs' / 'recipe_cpu.py'}", f"--workdir={workdir}", *options]
    arguments += ["--config.eval.every=0", f"--config.log.every={_WARM}"]
    log = workdir.with_suffix(".log")
    with log.open("w") as output:
        run = subprocess.Popen(
            [sys.executable, "-m", "facenet_jax", "train", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=workdir.parent,
            env=os.environ | {"PYTHONPATH": str(checkout / "src"), "JAX_PLATFORMS": "cpu"},
            start_new_session=True,
        )
        try:
            taken = []
            for step in (_WARM, _WARM + steps):
                while not any(row["step"] >= step for row in read_metrics(workdir)):
                    if run.poll() is not None:
                        raise Refused(f"ended: {(log.read_text().strip().splitlines() or ['nothing said'])[-1]}")
                    time.sleep(_LOOK)
                taken.append((_processor_seconds(run.pid), time.perf_counter()))
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
    (busy, started), (busy_until, ended) = taken
    return {"processor_seconds": (busy_until - busy) / steps, "seconds": (ended - started) / steps}


def _processor_seconds(session: int) -> float:
    """Processor seconds of all processes of a session so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += (int(fields[11]) + int(fields[12])) * (int(fields[3]) == session)
    return ticks / os.sysconf("SC_CLK_TCK")


def report_recipe(found: dict[str, list[dict[str, float]]]) -> str:
    """Markdown; ratios are medians of ratios within a turn, to the first contender."""
    first = next(iter(found.values()))
    lines = [
        "| | processor seconds a step | lowest to highest | seconds a step | processor seconds, first = 1 |",
        "|---|---|---|---|---|",
    ]
    for name, turns in found.items():
        busy, seconds = ([turn[unit] for turn in turns] for unit in ("processor_seconds", "seconds"))
        ratio = statistics.median(a / b["processor_seconds"] for a, b in zip(busy, first, strict=True))
        lines.append(
            f"| {name} | {statistics.median(busy):.3f} | {min(busy):.3f} to {max(busy):.3f} "
            f"| {statistics.median(seconds):.3f} | {ratio:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints, and writes benchmarks/results/step.{md,json}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="(%(default)s)")
    parser.add_argument("--networks", default=",".join(FACES), help="(%(default)s)")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where the figures go")
    parser.add_argument("--recipe", action="store_true", help="whole steps of recipe_cpu, with its changes and without")
    parser.add_argument(
        "--steps", type=int, default=20, help="timed steps in a turn of the recipe, a multiple of 4 (%(default)s)"
    )
    parser.add_argument("--beside", type=Path, help="another checkout of this repository, for --recipe")
    options = parser.parse_args()
    if options.recipe:
        try:
            recipe = measure_recipe(options.turns, options.steps, options.beside)
        except Refused as error:
            sys.exit(f"the recipe: {error}")
        machine = describe_machine()
        text = f"# A step of the recipe\n\nMedians of {options.turns} turns of {options.steps} steps of 360 faces.\n\n"
        text += f"{report_recipe(recipe)}\n\n{in_words(machine)}\n"
        _write(options.results, "recipe_step", text, {"machine": machine, "steps": recipe})
        return
    python = peers_python()
    if isinstance(python, str):
        print(f"without the peer: {python}", file=sys.stderr)
    found = {}
    for network in options.networks.split(","):
        try:
            found[network] = measure(network, options.turns, python if isinstance(python, Path) else None)
        except Refused as error:
            sys.exit(f"{network}: {error}")
        print(report({network: found[network]}), flush=True)
    machine = describe_machine()
    text = (
        "# The cost of a face in training on a CPU\n\nForward and backward at 96x96, standardised kernels; medians of "
        f"{options.turns} turns.\n\n{report(found)}\n\n{in_words(machine)}\n"
    )
    _write(options.results, "step", text, {"machine": machine, "seconds_a_face": found})


def _write(folder: Path, name: str, text: str, document: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"\n{text}\nwritten         {folder / f'{name}.md'}, {name}.json")


if __name__ == "__main__":
    main()
