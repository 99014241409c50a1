"""What a face costs in training on a CPU: our networks, in parts or at once, beside NN4 in PyTorch.

    python -m benchmarks.step                     (or `make bench-step`)
    python -m benchmarks.step --turns 2

A network's embeddings of a batch of random images at 96x96 and the gradient of their weighted sum: a step without
selection, loader and optimiser. Contenders are processes that take turns on all processors; the median of the turns
counts. The peer is NN4 with batch normalisation, channels last, as PyTorch's users would write it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.lines import ROOT, Child, Refused
from benchmarks.machine import describe_machine, in_words
from benchmarks.peers.environment import peers_python
from benchmarks.peers.table import table_2

FACES = {"nns2": 360, "nns1": 240, "nn4": 120}
# Our own, by what the command `facenet-jax train` does: (rows in parts, memory in huge pages).
FORMS = {"at once": (False, "0"), "in parts": (True, "0"), "in parts, huge pages (as `train` does)": (True, "1")}
PEER = "PyTorch, batch norm"
_MEMORY = 2**36  # of address space: no limit
_TIMEOUT = 900.0


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


def main() -> None:
    """Measures, prints, and writes benchmarks/results/step.{md,json}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="(%(default)s)")
    parser.add_argument("--networks", default=",".join(FACES), help="(%(default)s)")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where the figures go")
    options = parser.parse_args()
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
        "# What a face costs in training on a CPU\n\nForward and backward at 96x96, standardised kernels; medians of "
        f"{options.turns} turns.\n\n{report(found)}\n\n{in_words(machine)}\n"
    )
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "step.md").write_text(text)
    document = {"machine": machine, "seconds_a_face": found}
    (options.results / "step.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"\n{text}\nwritten         {options.results / 'step.md'}, step.json")


if __name__ == "__main__":
    main()
