"""Options with which tests compile: fast ones, and those that fuse programs as users' are."""

import mmap
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

# A step of the smallest run then compiles in 1.3 s in place of 14, and takes 40 ms in place of 13. Results are compared
# with references that do not use XLA, or with programs compiled alike, so LLVM's optimisation is not needed.
QUICK = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": "true",
    "xla_cpu_use_fusion_emitters": "false",
}


def known_flags(names: Iterable[str]) -> list[str]:
    """The flags that XLA knows; others end the process. Names of removed flags remain only in XLA's protobufs."""
    jaxlib = Path(find_spec("jaxlib").origin).parent
    library = max(jaxlib.glob("*.so"), key=lambda file: file.stat().st_size)
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return [name for name in names if text.find(b"\0" + name.encode() + b"\0") >= 0]


def quick_flags() -> str:
    """QUICK for XLA_FLAGS."""
    return " ".join(f"--{name}={QUICK[name]}" for name in known_flags(QUICK))


# For `lower(...).compile(compiler_options=...)`: gives the program text and memory that a user gets. Neither depends on
# LLVM, which runs later.
FUSED_AS_USERS = dict.fromkeys(known_flags(["xla_cpu_use_fusion_emitters"]), True)
