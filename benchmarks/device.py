"""Measures an accelerator: steps, triplets, the loader and whole runs, each compared with a peer or a floor.

    python -m benchmarks.device                         (or `make bench-device`)
    python -m benchmarks.device --only networks,triplets --minutes 15

It takes at most eight minutes on one device, with drawn faces; parts that there was no time for are named. The parts:

- networks: a compiled training step of the six networks in bfloat16 and float32, against the rate of a plain matrix
  product in the same type;
- peers: NN2's table with batch normalisation in PyTorch, as written and by torch.compile, where torch is installed;
- triplets: value and gradient of the loss against a floor, the Gram matrix and one product, and against the miner and
  loss of pytorch-metric-learning where that is installed;
- train: `facenet-jax train` of NNS2 and NN2 on drawn faces, prepared once;
- same: a run repeated, killed and resumed, and compiled again: the same bits, or the step at which they differ;
- loader: faces on disk to batches, by workers.

Compiled programs are kept in a folder of this call alone, so compiling is timed at first use. A table goes to the
screen and to benchmarks/results/device.{md,json}; a line names each aim that was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.device_runs import Commands, end_to_end, same_again
from benchmarks.device_table import aims, report
from benchmarks.ending import exit_code
from benchmarks.lines import ROOT, Child, Refused
from benchmarks.loader import Work, draw, turn
from benchmarks.machine import describe_machine
from benchmarks.peers.environment import torch_python
from benchmarks.peers.table import table_2
from benchmarks.triplets import make_batch
from facenet_jax.errors import InputError
from facenet_jax.runtime.files import write_whole

PARTS = ("networks", "peers", "triplets", "train", "same", "loader")
# Limit of address space, higher than any use: CUDA reserves more than a machine has.
_NO_LIMIT = 2**47


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
      batches: network -> faces of a step.
      options: options of the config, for every network.
      triplets: faces of a batch of embeddings.
      miner_up_to: most faces for pytorch-metric-learning, whose memory grows with their cube.
      turns, steps: the median of this many turns, each of this many steps or calls.
      train: network -> steps of a whole run.
      same: steps of the run that is repeated.
      people, faces: drawn people, and faces of each.
      works: files of one size each, and the size they are read at.
      peer: rows and columns of the input of the peers' network.
    """

    batches: dict[str, int]
    options: tuple[str, ...]
    triplets: tuple[int, ...]
    miner_up_to: int
    turns: int
    steps: int
    train: dict[str, int]
    same: int
    people: int
    faces: int
    works: tuple[Work, ...]
    peer: tuple[int, int]


# Batches that fit 80 GiB; the most important networks come first.
FULL = Sizes(
    batches={"nns2": 1800, "nn2": 480, "nn4": 1800, "nn1": 480, "nn3": 480, "nns1": 960},
    options=(),
    triplets=(1800, 720, 7200, 65_536),
    miner_up_to=2000,
    turns=3,
    steps=8,
    train={"nns2": 200, "nn2": 100},
    same=120,
    people=60,
    faces=40,
    works=(Work(250, 224, 20), Work(112, 112, 40)),
    peer=(224, 224),
)
TOY = Sizes(
    batches={"nns2": 12},
    options=("--config.model.input_size=(32, 32)", "--config.batch.faces_per_identity=3"),
    triplets=(24,),
    miner_up_to=2000,
    turns=1,
    steps=2,
    train={"nns2": 4},
    same=8,
    people=24,
    faces=20,
    works=(Work(32, 32, 1),),
    peer=(32, 32),
)


class Bench:
    """One call: the figures measured so far, and the seconds that are left.

    Attributes:
      found: the figures, by part; `left_out` names what could not be measured, and why.
    """

    def __init__(self, sizes: Sizes, seconds: float, folder: Path, toy: bool) -> None:
        """Asks JAX for its device.

        Args:
          sizes: how much is measured.
          seconds: for everything.
          folder: for faces, runs and compiled programs.
          toy: whether to run on the CPU, with this process's cache of compiled programs.

        Raises:
          InputError: there is no accelerator.
        """
        self.sizes, self.folder, self._end = sizes, folder, time.monotonic() + seconds
        self._variables = {"JAX_PLATFORMS": "cpu" if toy else os.environ.get("JAX_PLATFORMS", "")}
        if not toy:
            self._variables["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
        self._commands = Commands(self.left, self._variables)
        self.found: dict[str, Any] = {"networks": [], "peers": [], "triplets": [], "train": [], "loader": []}
        self.found |= {"toy": toy, "left_out": {}}
        with self._child() as child:
            device = child.ask(self.left(), "device")
        if device["platform"] == "cpu" and not toy:
            raise InputError("JAX finds no accelerator here; install jax[cuda12] or jax[tpu], or give --toy.")
        self.found["device"] = device

    def left(self) -> float:
        """Seconds until the end of this call."""
        return self._end - time.monotonic()

    def measure(self, parts: list[str]) -> None:
        """Measures the parts, the most important first, since compiling may take most of the time."""
        batches = self.sizes.batches
        first = [name for name in ("nns2", "nn2") if name in batches]
        if "networks" in parts:
            self._networks("bfloat16", first)
        if "peers" in parts:
            self._peers()
        if "triplets" in parts:
            self._triplets()
        faces = self._faces() if "train" in parts or "same" in parts else Path()
        if "train" in parts:
            self._train(faces)
        if "same" in parts:
            self._try("same", "a run repeated", lambda: self._same(faces))
        if "loader" in parts:
            self._loader()
        if "networks" in parts:
            self._networks("bfloat16", [name for name in batches if name not in first])
            self._networks("float32", list(batches))

    def _child(self, python: str | Path = sys.executable, module: str = "benchmarks.device_child") -> Child:
        cores = len(os.sched_getaffinity(0))
        return Child(python, module, threads=cores, memory=_NO_LIMIT, variables=self._variables)

    def _try(self, part: str, what: str, call: Callable[[], None]) -> bool:
        """Measures one thing and returns whether it could; otherwise notes why not."""
        try:
            if self.left() <= 0:
                raise Refused("no time left")
            call()
        except Refused as error:
            reason = "no time left" if self.left() <= 0 else str(error)
            self.found["left_out"][f"{part}: {what}"] = reason
            print(f"{part:<12}{what}: {reason}", file=sys.stderr, flush=True)
            return False
        print(f"{part:<12}{what}", file=sys.stderr, flush=True)
        return True

    def _options(self, network: str, dtype: str) -> list[str]:
        """The options of a config, the same for a step alone and for a whole run."""
        batch = self.sizes.batches[network]
        return [
            f"--config.model.dtype={dtype}",
            f"--config.batch.size={batch}",
            f"--config.batch.random_negatives={batch // 9}",
            *self.sizes.options,
        ]

    def _networks(self, dtype: str, networks: list[str]) -> None:
        rates = self.found.setdefault("matrix_product", {})

        def step(network: str) -> None:
            # A process each, so that the next one has all of the device's memory.
            with self._child() as child:
                if dtype not in rates:
                    rates[dtype] = child.ask(self.left(), "product", dtype=dtype)["rate"]
                asked = {"turns": self.sizes.turns, "steps": self.sizes.steps}
                options = self._options(network, dtype)
                reply = child.ask(self.left(), "step", network=network, options=options, **asked)
            operations = 6 * reply["multiply_adds"] * reply["faces"] / reply["seconds"]
            row = {"network": network, "dtype": dtype, "share_of_product": operations / rates[dtype]}
            self.found["networks"].append(row | reply)

        for network in networks:
            self._try("networks", f"{network} in {dtype}", lambda network=network: step(network))

    def _peers(self) -> None:
        python = torch_python()
        for compiled in (False, True):

            def step(compiled: bool = compiled) -> None:
                if isinstance(python, str):
                    raise Refused(python)
                asked: dict[str, Any] = {"turns": self.sizes.turns, "steps": self.sizes.steps, "compiled": compiled}
                asked |= {"size": self.sizes.peer, "faces": self.sizes.batches.get("nn2", 12)}
                with self._child(python, "benchmarks.peers.device") as child:
                    reply = child.ask(self.left(), "step", table=table_2("all"), **asked)
                self.found["peers"].append({"compiled": compiled} | reply)

            self._try("peers", f"NN2's table in PyTorch, {'compiled' if compiled else 'as written'}", step)

    def _triplets(self) -> None:
        python = torch_python()

        def ours(size: int) -> None:
            with self._child() as child:
                reply = child.ask(self.left(), "triplets", size=size, turns=self.sizes.turns, calls=self.sizes.steps)
            self.found["triplets"].append({"faces": size} | reply)

        def miner(size: int) -> None:
            if isinstance(python, str):
                raise Refused(python)
            batch = self.folder / "batch.npz"
            embeddings, labels = make_batch(size)
            np.savez(batch, embeddings=embeddings, labels=labels)
            where = "cuda" if self.found["device"]["platform"] == "gpu" else "cpu"
            with self._child(python, "benchmarks.peers.metric_learning") as child:
                child.ask(self.left(), "read", batch=str(batch), device=where)
                child.ask(self.left(), "run", contender="miner", calls=1)
                reply = child.ask(self.left(), "run", contender="miner", calls=self.sizes.steps)
            self.found["triplets"][-1]["miner"] = reply["seconds"]

        for size in self.sizes.triplets:
            measured = self._try("triplets", f"{size:,} faces", lambda size=size: ours(size))
            if measured and size <= self.sizes.miner_up_to:
                self._try("triplets", f"pytorch-metric-learning, {size:,}", lambda size=size: miner(size))

    def _faces(self) -> Path:
        """Draws faces at the first size of the works and prepares them; returns their folder."""
        pixels, out = self.sizes.works[0].pixels, self.folder / "faces"

        def make() -> None:
            drawn = self.folder / str(pixels)
            draw(drawn, pixels, self.sizes.people, self.sizes.faces)
            self._commands.run(
                "prepare", str(drawn), str(out), "--crop=none", f"--size={pixels}", log=self.folder / "prepare.log"
            )

        self._try("train", f"{self.sizes.people * self.sizes.faces:,} faces drawn and prepared", make)
        return out

    def _of_run(self, network: str, faces: Path) -> list[str]:
        workers = max(1, len(os.sched_getaffinity(0)) - 1)
        data = [f"--config.data.path={faces}", f"--config.data.workers={workers}"]
        judged = ["--config.eval.every=0", "--config.eval.holdout=0.2"]
        return [f"--config={network}", *data, *judged, *self._options(network, "bfloat16")]

    def _train(self, faces: Path) -> None:
        def run(network: str, steps: int) -> None:
            options = [*self._of_run(network, faces), f"--config.steps={steps}"]
            found = end_to_end(self._commands, options, self.folder / f"train-{network}")
            self.found["train"].append({"network": network, "steps": steps} | found)

        for network, steps in self.sizes.train.items():
            self._try("train", network, lambda network=network, steps=steps: run(network, steps))

    def _same(self, faces: Path) -> None:
        self.found["same"] = same_again(self._commands, self._of_run("nns2", faces), self.sizes.same, self.folder)

    def _loader(self) -> None:
        cores = len(os.sched_getaffinity(0))
        counts = sorted({1, *(2**k for k in range(1, 8) if 2**k < cores), max(1, cores - 1)})

        def rate(work: Work, workers: int) -> None:
            with self._child(module="benchmarks.loader_child") as child:
                found = {
                    task: turn(child, task, {"workers": workers}, work, folder, self.left())
                    for task in ("loader", "decoder")
                }
            about = {"files": work.pixels, "size": work.size, "workers": workers}
            rates = {task: figures["images_per_second"] for task, figures in found.items()}
            main_process = {"main_microseconds": found["loader"]["main_microseconds"]}
            self.found["loader"].append(about | rates | main_process)

        for work in self.sizes.works:
            folder = self.folder / str(work.pixels)
            if not folder.exists():
                draw(folder, work.pixels, self.sizes.people, self.sizes.faces)
            for workers in reversed(counts):
                self._try("loader", f"{work.words}, {workers} workers", lambda w=work, n=workers: rate(w, n))


def chosen(text: str) -> list[str]:
    """The parts named.

    Raises:
      InputError: there is no such part.
    """
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if part not in PARTS:
            raise InputError(f"--only: there is no part {part!r}; give some of {', '.join(PARTS)}.")
    return parts


def main() -> None:
    """Measures, prints, and writes device.{md,json}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them (%(default)s)")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything (%(default)g)")
    parser.add_argument("--toy", action="store_true", help="on the CPU, NNS2 at 32x32 alone: does it run?")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results")
    options = parser.parse_args()
    parts, started = chosen(options.only), time.perf_counter()
    if not options.minutes > 0:
        raise InputError(f"--minutes={options.minutes:g}: give a number above 0.")
    with tempfile.TemporaryDirectory(prefix="facenet-jax-device-") as folder:
        bench = Bench(TOY if options.toy else FULL, 60 * options.minutes, Path(folder), options.toy)
        bench.measure(parts)
    found = {"machine": describe_machine()} | bench.found
    found |= {"aims": aims(found) if not options.toy else [], "seconds": round(time.perf_counter() - started, 1)}
    options.out.mkdir(parents=True, exist_ok=True)
    text = report(found)
    write_whole(options.out / "device.md", text)
    write_whole(options.out / "device.json", json.dumps(found, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    sys.exit(exit_code("bench-device", main))
