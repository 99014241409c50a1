"""Asks Linux for memory in pages of 2 MiB."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_VARIABLE, _TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def ask_for_huge_pages() -> None:
    """Starts this process again, under the same number, with memory in huge pages; returns where that changes nothing.

    A step goes through gigabytes that malloc gives in pages of 4 KiB; looking these up took a fifth of a step's time on
    two CPU cores. The C library reads its tunables when a process begins, so there is no later way. A value of
    glibc.malloc.hugetlb that is set already, 0 included, stands.
    """
    given = os.environ.get(_VARIABLE, "")
    try:
        on_request = "[madvise]" in _KERNEL.read_text()
    except OSError:
        on_request = False
    if not on_request or _TUNABLE in given or not sys.executable:
        return
    os.environ[_VARIABLE] = ":".join(filter(None, (given, f"{_TUNABLE}=1")))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
