"""Chooses the number of processes."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """The cores that this process may use: a batch system may have limited which, a container how much of their time.

    Elsewhere those of the machine.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(cores, _share_of_time()))


def _share_of_time() -> float:
    """Cores' worth of time that the cgroups around this process allow, of version 2 or 1; infinite without a limit."""
    try:
        place = next(line[3:] for line in _OWN.read_text().splitlines() if line.startswith("0::"))
    except (OSError, ValueError, StopIteration):
        place = "/"
    own = _CGROUP / place.strip("/")
    limits = [_limit(folder / "cpu.max") for folder in (own, *own.parents)]
    quota, period = (_CGROUP / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
    return min(*limits, _limit(quota, period))


def _limit(*files: Path) -> float:
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # "max", or no such files
        return math.inf
