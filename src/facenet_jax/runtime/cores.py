"""How many processes are worth having."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """The cores that this process may run on, which a batch system may have limited; elsewhere those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
