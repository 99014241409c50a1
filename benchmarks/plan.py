"""Measures the index and the plan at the paper's scale: 8 million identities, 200 million faces.

    python -m benchmarks.plan                     (or `make bench-plan`)
    python -m benchmarks.plan --identities 100000

Numbers of faces with a heavy tail are drawn, their index is written out of core, opened by another process, and batches
are planned on it. Times and peak memory are printed and go, with all figures, to benchmarks/results. Linux only, which
reports the peak memory of a process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.lines import ROOT, Child
from benchmarks.machine import describe_machine, in_words

_MEMORY = 2**36  # limit of address space, higher than any use; the memory held is measured
_TIMEOUT = 600.0
_SIZE = 1800
_BATCHES = 500


def measure(identities: int, mean: float, folder: str) -> dict[str, Any]:
    """All figures: seconds and bytes."""
    with Child(sys.executable, "benchmarks.plan_child", threads=1, memory=_MEMORY) as child:
        empty = child.ask(_TIMEOUT, "nothing")
        built = child.ask(_TIMEOUT, "build", folder=folder, identities=identities, mean=mean)
    size = sum(file.stat().st_size for file in Path(folder).iterdir())
    with Child(sys.executable, "benchmarks.plan_child", threads=1, memory=_MEMORY) as child:
        opened = child.ask(_TIMEOUT, "open", folder=folder)
        planned = child.ask(_TIMEOUT, "plan", size=_SIZE)
        first = child.ask(_TIMEOUT, "batch", epoch=0)
        batches = child.ask(_TIMEOUT, "batches", epoch=0, number=_BATCHES)
        # Two epochs are in memory while batches are read ahead across their border; a third replaces the first.
        later = [child.ask(_TIMEOUT, "batch", epoch=epoch) for epoch in (1, 2)]
        late_batches = child.ask(_TIMEOUT, "batches", epoch=2, number=_BATCHES)
        quantiles = child.ask(_TIMEOUT, "histogram")["quantiles"]
    with Child(sys.executable, "benchmarks.plan_child", threads=1, memory=_MEMORY) as child:
        child.ask(_TIMEOUT, "open", folder=folder)
        split = child.ask(_TIMEOUT, "split")
    each = sorted(batches["each"] + late_batches["each"])
    return {
        "identities": identities,
        "records": int(opened["value"]),
        "faces_per_identity": dict(zip(("least", "median", "p90", "p99", "most"), quantiles, strict=True)),
        "batch_size": _SIZE,
        "batches_per_epoch": int(planned["value"]),
        "bytes_on_disk": size,
        "build_seconds": built["seconds"],
        "build_peak_bytes": built["peak"],
        "open_seconds": opened["seconds"],
        "split_seconds": split["seconds"],
        "split_peak_bytes": split["peak"],
        "plan_seconds": planned["seconds"],
        "first_batch_of_epoch_seconds": max(one["seconds"] for one in (first, *later)),
        "batch_seconds_median": statistics.median(each),
        "batch_seconds_p99": each[int(0.99 * len(each))],
        "batch_seconds_most": each[-1],
        "batches_timed": len(each),
        "peak_bytes": max(one["peak"] for one in (opened, planned, first, batches, *later, late_batches)),
        "bytes_of_interpreter": empty["peak"],
    }


def report(found: dict[str, Any], machine: dict[str, str | int | float]) -> str:
    """The table, with the project's aims."""
    rows = [
        ("index written out of core", f"{found['build_seconds']:.1f} s", ""),
        ("  most memory held meanwhile", _mib(found["build_peak_bytes"]), "500 MiB"),
        ("  on disk", _mib(found["bytes_on_disk"]), ""),
        ("index opened", f"{1000 * found['open_seconds']:.1f} ms", "1 s"),
        ("identities held out by name", f"{found['split_seconds']:.1f} s", ""),
        ("  most memory held meanwhile", _mib(found["split_peak_bytes"]), "500 MiB"),
        ("plan made", f"{found['plan_seconds']:.2f} s", ""),
        ("an epoch's first batch", f"{found['first_batch_of_epoch_seconds']:.2f} s", "5 s"),
        ("a batch, median", f"{1000 * found['batch_seconds_median']:.1f} ms", "10 ms"),
        ("a batch, 99th percentile", f"{1000 * found['batch_seconds_p99']:.1f} ms", ""),
        ("a batch, the slowest", f"{1000 * found['batch_seconds_most']:.1f} ms", ""),
        ("most memory held by index and plan", _mib(found["peak_bytes"]), "500 MiB"),
        ("  of it the interpreter and NumPy", _mib(found["bytes_of_interpreter"]), ""),
    ]
    many = found["faces_per_identity"]
    lines = [
        f"{found['identities']:,} identities, {found['records']:,} faces (of an identity: median {many['median']:.0f}, "
        f"90th percentile {many['p90']:.0f}, 99th {many['p99']:.0f}, most {many['most']:.0f}); batches of "
        f"{found['batch_size']:,}, {found['batches_per_epoch']:,} an epoch, {found['batches_timed']:,} of them "
        "timed, each three times; the shortest time counts.",
        "",
        "| | | aim: below |",
        "|---|---|---|",
        *(f"| {name} | {value} | {aim} |" for name, value, aim in rows),
        "",
        f"{in_words(machine)} One core is used.",
    ]
    return "\n".join(lines) + "\n"


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=8_000_000)
    parser.add_argument("--mean", type=float, default=25.7, help="faces of an identity, before the tail is clipped")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="where plan.md and .json go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.identities, options.mean, folder)
    machine = describe_machine(("numpy",))
    text = report(found, machine)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "plan.md").write_text(f"# Index and plan at scale\n\n{text}")
    (options.out / "plan.json").write_text(json.dumps({"machine": machine, "plan": found}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
