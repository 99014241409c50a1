"""Compares our loader with PyTorch's DataLoader and with the bare decoder, on the same cores.

    python -m benchmarks.loader                   (or `make bench-loader`)
    python -m benchmarks.loader --without-peers --turns 3

JPEGs of drawn faces are read from a folder, decoded, cut and resized to the network's input, and joined into batches of
P identities with K faces each, by

- ours: `facenet_jax.input.loader`, with 1, 2, 4, ... worker processes up to as many as cores; with threads of one
  process; with a copy of each batch, as a CPU needs it; and with faces that are kept (`data.cache=host`);
- the bare decoder: `FolderSource.load` of the same number of faces in the same number of processes, which discard what
  they decode, without batches;
- PyTorch's DataLoader, as many workers as cores, with our decoder and with Pillow, in the environment that
  benchmarks/peers makes.

All take turns in one run. A turn begins with a fresh loader and is timed after the first batches. Rates are medians,
ratios are medians of the ratios within a round. The cost of a face in the main process is the processor time of all its
threads while batches are timed (with threads that decode, all of their work), and that of the thread that asks for
batches. Tables go to the screen and, with the figures, to benchmarks/results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from benchmarks.lines import ROOT, Child, Refused
from benchmarks.machine import describe_machine, in_words
from benchmarks.peers.environment import peers_python
from facenet_jax.datasets.drawn import render

_PEOPLE, _FACES_OF_EACH = 60, 20
_IDENTITIES, _FACES = 18, 20  # P and K
_WARM = 9  # batches for each worker: the memory that is shared is touched once, 6 batches of it by each
_MEMORY = 2**40  # limit of address space, higher than any use
_TIMEOUT = 600.0


class Work(NamedTuple):
    """Files of one size, the size that they are resized to, and how many batches are timed."""

    pixels: int
    size: int
    batches: int

    @property
    def words(self) -> str:
        return f"{self.pixels} px files to {self.size} px"


WORKS = (Work(112, 112, 40), Work(250, 112, 16))


class Contender(NamedTuple):
    """Whose process takes the turn, its task with options, and the bare decoder that the table compares it with."""

    whose: str
    task: str
    options: dict[str, Any]
    bare: str


def contenders(cores: int) -> dict[str, Contender]:
    """The contenders on this many cores, by name."""
    found = {}
    for workers in sorted({cores, *(2**n for n in range(cores.bit_length()) if 2**n <= cores)}):
        processes = f"{workers} process{'es' * (workers != 1)}"
        bare = f"bare decoder, {processes}"
        found[f"ours, {processes}"] = Contender("ours", "loader", {"workers": workers}, bare)
        found[bare] = Contender("ours", "decoder", {"workers": workers}, bare)
    most = {"workers": cores}
    return found | {
        f"ours, {processes}, each batch copied": Contender("ours", "loader", most | {"lent": False}, bare),
        f"ours, {processes}, faces kept": Contender("ours", "loader", most | {"keep": True}, bare),
        "ours, threads": Contender("ours", "loader", {"workers": 0}, bare),
        "DataLoader, our decoder": Contender("peers", "loader", most, bare),
        "DataLoader, Pillow": Contender("peers", "loader", most | {"with_pillow": True}, bare),
    }


def draw(folder: Path, pixels: int, people: int = _PEOPLE, faces: int = _FACES_OF_EACH) -> int:
    """Writes the JPEGs, one person per core at a time; returns their mean size in bytes."""
    # Not forked: this process may have threads.
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn")) as pool:
        list(pool.map(partial(_draw_person, folder, pixels, faces), range(people)))
    files = [file.stat().st_size for file in folder.glob("*/*.jpg")]
    return sum(files) // len(files)


def _draw_person(folder: Path, pixels: int, faces: int, person: int) -> None:
    (folder / f"{person:03d}").mkdir(parents=True)
    for face in range(faces):
        image = Image.fromarray(render(0, person, face, (pixels, pixels)))
        image.save(folder / f"{person:03d}" / f"{face:02d}.jpg", quality=90)


def turn(
    child: Child, task: str, options: dict[str, Any], work: Work, folder: Path, timeout: float = _TIMEOUT
) -> dict[str, float]:
    """Images a second of one contender in one turn, and the cost of a face in the main process where it is known."""
    about: dict[str, Any] = {"folder": str(folder), "size": work.size} | options
    warm = _WARM * max(1, options["workers"])
    if task == "decoder":
        return child.ask(timeout, task, **about, images=(warm + work.batches) * _IDENTITIES * _FACES)
    about |= {"identities": _IDENTITIES, "faces": _FACES, "warm": warm, "batches": work.batches}
    return child.ask(timeout, task, **about)


def measure(
    children: dict[str, Child], work: Work, folder: Path, turns: int, cores: int
) -> dict[str, list[dict[str, float]]]:
    """The figures of each contender in each round, without those whose process is missing or fails."""
    figures: dict[str, list[dict[str, float]]] = {
        name: [] for name, contender in contenders(cores).items() if contender.whose in children
    }
    for _ in range(turns):
        for name in list(figures):
            whose, task, about, _ = contenders(cores)[name]
            try:
                figures[name].append(turn(children[whose], task, about, work, folder))
            except Refused as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                del figures[name]
    return figures


def table(figures: dict[str, list[dict[str, float]]], cores: int) -> list[str]:
    """Rows with rates, their ratios to a bare decoder in the same number of processes, and the main process's time."""
    lines = [
        "| | images/s | lowest to highest | of the bare decoder | main process, µs a face | its main thread |",
        "|---|---|---|---|---|---|",
    ]
    rates = {name: [each["images_per_second"] for each in turns] for name, turns in figures.items()}
    for name, each in rates.items():
        bare = rates[contenders(cores)[name].bare]
        ratio = statistics.median(one / other for one, other in zip(each, bare, strict=True))
        costs = []
        for key in ("main_microseconds", "main_thread_microseconds"):
            found = [turn[key] for turn in figures[name] if key in turn]
            costs.append(f"{statistics.median(found):.1f}" if found else "")
        lines.append(
            f"| {name} | {statistics.median(each):,.0f} | {min(each):,.0f} to {max(each):,.0f} | {ratio:.0%} "
            f"| {' | '.join(costs)} |"
        )
    return lines


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="for loader.md and .json")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    found: list[dict[str, Any]] = []
    text: list[str] = []
    with contextlib.ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def start(python: str | Path, module: str) -> Child:
            return stack.enter_context(Child(python, module, threads=cores, memory=_MEMORY))

        children = {"ours": start(sys.executable, "benchmarks.loader_child")}
        versions: dict[str, str | int | float] = {}
        if not options.without_peers:
            python = peers_python()
            if isinstance(python, Path):
                children["peers"] = start(python, "benchmarks.peers.dataloader")
                versions = children["peers"].ask(_TIMEOUT, "versions")
            else:
                print(f"without peers: {python}", file=sys.stderr)
        for work in WORKS:
            size = draw(temporary / str(work.pixels), work.pixels)
            figures = measure(children, work, temporary / str(work.pixels), options.turns, cores)
            found.append(work._asdict() | {"mean_bytes": size, "turns": figures})
            text += [f"{work.words} ({size / 1000:.1f} kB each)", "", *table(figures, cores), ""]
    machine = describe_machine(("numpy", "grain", "simplejpeg", "pillow")) | versions
    text += [f"Batches of {_IDENTITIES} identities x {_FACES} faces; {options.turns} rounds. {in_words(machine)}", ""]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "loader.md").write_text("\n".join(["# Loading faces", "", *text]))
    (options.out / "loader.json").write_text(json.dumps({"machine": machine, "loader": found}, indent=1) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
