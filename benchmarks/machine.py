"""Describes the machine of a measurement, for the text printed with it."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from importlib import metadata
from pathlib import Path


def describe_machine(packages: tuple[str, ...] = ("jax", "jaxlib", "numpy")) -> dict[str, str | int | float]:
    """Processor, cores that this process may use, memory, versions and the date.

    Args:
      packages: whose versions are named.
    """
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def in_words(machine: dict[str, str | int | float]) -> str:
    """The description as one sentence."""
    first = ("processor", "cores", "memory_gib", "system", "date")
    versions = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in first)
    cores = f"{machine['cores']} core{'s' * (machine['cores'] != 1)}"
    return (
        f"Taken on {machine['date']} on {machine['processor']}, {cores}, {machine['memory_gib']} GiB, "
        f"{machine['system']}; {versions}."
    )


def _processor() -> str:
    if sys.platform.startswith("linux"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
