"""Times selection, loss and gradient, compared with peers and with a floor, by size of batch.

    python -m benchmarks.triplets                     (or `make bench-triplets`)
    python -m benchmarks.triplets --sizes 180,360 --without-peers

Value and gradient of the semi-hard triplet loss on one batch of embeddings, by

- ours: `facenet_jax.triplets.triplet_loss_and_gradient`;
- the floor: only the Gram matrix, one pass over it and the gradient's two products;
- the tiled form, as in TensorFlow Addons' `triplet_semihard_loss`, written in JAX from its definition;
- the miner and the loss of pytorch-metric-learning, in the environment that benchmarks/peers makes.

All take turns in one run, in processes with the same processors and memory; times are medians, ratios are medians of
the ratios of single turns. Tables go to the screen and, with the figures, to benchmarks/results. Linux only, which
reports the peak memory of a process.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lines import Child, Refused
from benchmarks.machine import describe_machine
from benchmarks.peers.environment import peers_python
from benchmarks.triplets_table import report

SIZES = (180, 360, 720, 1800, 7200, 65_536)
# The peers are not asked beyond this size, where they need terabytes.
PEERS_UP_TO = 10_000
EMBEDDING_SIZE = 128
CONTENDERS = ("ours", "floor", "tiled", "miner")
# A turn lasts at least _TURN seconds; a contender that has had _ENOUGH seconds at a size skips further turns; one whose
# first call took more than _SLOW has no turns.
_TURN, _ENOUGH, _SLOW = 0.05, 12.0, 10.0
_TIMEOUT = 600.0


@dataclass
class Measured:
    """One contender at one size.

    Attributes:
      refused: why there is no time; empty if there is one.
      seconds: of a call, for each turn; None for a turn that it skipped.
      temporaries: bytes that its compiled program allocates beyond arguments and results (JAX only).
      grown: bytes by which its process grew in the first call.
      peak: peak bytes of its process, after the first call.
      needs: the least bytes that it needs, where it was refused.
      value: the loss.
    """

    refused: str = ""
    seconds: list[float | None] = field(default_factory=list)
    temporaries: int | None = None
    grown: int | None = None
    peak: int | None = None
    needs: int | None = None
    value: float | None = None


def faces_per_identity(size: int) -> int:
    """The largest divisor of the batch up to 40, as in the paper, that leaves at least four identities."""
    return max(k for k in range(1, min(40, size // 4) + 1) if size % k == 0)


def make_batch(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings float32 [B, d] around a centre for each identity, and labels int32 [B].

    Some identities are tight and some loose: distances within one are about 0.8 to 1.8, those between two about 2. So
    many pairs have a negative inside the margin and many do not, as in the middle of training.
    """
    rng = np.random.default_rng(seed)

    def on_sphere(points: np.ndarray) -> np.ndarray:
        return points / np.linalg.norm(points, axis=1, keepdims=True)

    labels = np.repeat(np.arange(size // faces_per_identity(size)), faces_per_identity(size))
    centres = on_sphere(rng.normal(size=(labels.max() + 1, EMBEDDING_SIZE)))
    share = rng.uniform(0.1, 0.6, len(centres))[labels, None]
    own = on_sphere(rng.normal(size=(size, EMBEDDING_SIZE)))
    points = on_sphere(np.sqrt(share) * centres[labels] + np.sqrt(1 - share) * own)
    return points.astype(np.float32), labels.astype(np.int32)


def measure(
    size: int, python: Path | None, *, threads: int, memory: int, repeats: int
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """All contenders at one size, taking turns.

    Args:
      size: faces in the batch.
      python: the peers' interpreter; None: without peers.
      threads: processors that each may use.
      memory: bytes of address space that each may use.
      repeats: turns.

    Returns:
      The figures by contender, and the statistics of the batch.
    """
    measured = {name: Measured() for name in CONTENDERS}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="facenet-jax-bench-"))
        batch = str(Path(folder) / "batch.npz")
        embeddings, labels = make_batch(size)
        np.savez(batch, embeddings=embeddings, labels=labels)
        limits: dict[str, Any] = {"threads": threads, "memory": memory}
        in_jax = stack.enter_context(Child(sys.executable, "benchmarks.in_jax", **limits))
        in_jax.ask(_TIMEOUT, "read", batch=batch)
        children = {"ours": in_jax, "floor": in_jax, "tiled": in_jax}
        if python is not None and size <= PEERS_UP_TO:
            children["miner"] = stack.enter_context(Child(python, "benchmarks.peers.metric_learning", **limits))
            children["miner"].ask(_TIMEOUT, "read", batch=batch)

        ready = [name for name in CONTENDERS if _first_call(name, size, children, measured[name], labels)]
        for turn in range(repeats):
            for name in np.roll(ready, turn):
                _take_turn(children[name], name, measured[name])
        stats = in_jax.ask(_TIMEOUT, "stats")
    return measured, {"faces_per_identity": faces_per_identity(size)} | stats


def _first_call(name: str, size: int, children: dict[str, Child], found: Measured, labels: np.ndarray) -> bool:
    """Prepares a contender and calls it once; returns whether it takes further turns."""
    if name in ("tiled", "miner") and size > PEERS_UP_TO:
        found.refused, found.needs = "not tried", _least_bytes(name, labels)
        return False
    if name not in children:
        found.refused = "left out"
        return False
    child = children[name]
    try:
        if name != "miner":
            prepared = child.ask(_TIMEOUT, "prepare", contender=name)
            found.temporaries = prepared["temporaries"]
            if not prepared["fits"]:
                raise Refused("out of memory")
        first = child.ask(_TIMEOUT, "run", contender=name, calls=1)
    except Refused as error:
        found.refused, found.needs = str(error), found.temporaries or _least_bytes(name, labels)
        _say(f"{size:>7,} faces: {name} {found.refused}")
        return False
    found.grown, found.peak, found.value = first["grown"], first["peak"], first["value"]
    _say(f"{size:>7,} faces: {name} took {first['seconds']:.3g} s at first")
    if first["seconds"] > _SLOW:  # warming up makes no difference
        found.seconds.append(first["seconds"])
        return False
    return True


def _take_turn(child: Child, name: str, found: Measured) -> None:
    """One more turn, unless it has had enough."""
    taken = [seconds for seconds in found.seconds if seconds is not None]
    if found.refused or (taken and (len(taken) + 1) * np.median(taken) > _ENOUGH):
        found.seconds.append(None)
        return
    calls = 1 if not taken else max(1, math.ceil(_TURN / float(np.median(taken))))
    found.seconds.append(child.ask(_TIMEOUT, "run", contender=name, calls=calls)["seconds"])


def _least_bytes(name: str, labels: np.ndarray) -> int | None:
    """The least bytes of a peer: its tiles of distances, or three 8-byte indices of every triplet."""
    size = len(labels)
    if name == "tiled":
        return 4 * size**3
    if name == "miner":
        faces = np.bincount(labels)[labels].astype(object)
        return 24 * int(np.sum((faces - 1) * (size - faces)))
    return None


def measure_steps(networks: dict[str, int], *, threads: int, memory: int) -> dict[str, dict[str, Any]]:
    """Seconds a face of training steps in chunks, by network; `networks`: name -> faces in the timed step."""
    steps = {}
    for network, faces in networks.items():
        _say(f"a training step of {network}, {faces} faces in chunks of 24")
        with Child(sys.executable, "benchmarks.in_jax", threads=threads, memory=memory) as child:
            reply = child.ask(_TIMEOUT, "training_step", network=network, faces=faces, chunk=24, repeats=3)
        steps[network] = {"faces": faces, "chunk": 24, **reply}
    return steps


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="faces in a batch (%(default)s)")
    parser.add_argument("--repeats", type=int, default=15, help="turns that each contender has (%(default)s)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="processors (all)")
    parser.add_argument("--memory", type=float, default=16.0, metavar="GIB", help="that each may use (%(default)s)")
    parser.add_argument("--without-peers", action="store_true", help="leave pytorch-metric-learning out")
    parser.add_argument("--without-steps", action="store_true", help="leave the training steps out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    options = parser.parse_args()
    try:
        wanted = [int(size.replace("_", "")) for size in options.sizes.split(",")]
    except ValueError:
        parser.error(f"{sizes.option_strings[0]} {options.sizes}: numbers with commas between them are needed")
    if min(wanted) < 8:
        parser.error(f"{sizes.option_strings[0]} {options.sizes}: a batch of 8 is the least")

    started = time.perf_counter()
    memory = int(options.memory * 2**30)
    limits: dict[str, Any] = {"threads": options.threads, "memory": memory}
    peers = "left out" if options.without_peers else peers_python()
    python = peers if isinstance(peers, Path) else None
    machine = describe_machine()
    if python is None:
        _say(f"pytorch-metric-learning: {peers}")
    else:
        with Child(python, "benchmarks.peers.metric_learning", **limits) as child:
            machine |= child.ask(_TIMEOUT, "versions")

    results: dict[str, Any] = {"machine": machine, "limits": limits, "sizes": {}, "steps": {}}
    for size in wanted:
        measured, batch = measure(size, python, repeats=options.repeats if size <= PEERS_UP_TO else 0, **limits)
        results["sizes"][str(size)] = {
            "batch": batch,
            "contenders": {name: dataclasses.asdict(found) for name, found in measured.items()},
        }
    if not options.without_steps and 1800 in wanted:
        results["steps"] = measure_steps({"nns1": 72, "nns2": 192}, **limits)
    results["seconds"] = round(time.perf_counter() - started, 1)

    text = report(results)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "triplets.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "triplets.md").write_text(text)
    print(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
