"""How tests compile: quickly; where a test looks into a program, that program is fused as a user's is."""

import mmap
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

# A step of the smallest run then compiles in 1.3 s in place of 14, and takes 40 ms in place of 13. What is computed is
# compared with references that do not use XLA, or with itself compiled alike, so LLVM's optimising is not missed.
QUICK = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": "true",
    "xla_cpu_use_fusion_emitters": "false",
}


def known_flags(names: Iterable[str]) -> list[str]:
    """The flags that XLA knows. It ends the process over others; the names of removed ones remain in its protocol."""
    jaxlib = Path(find_spec("jaxlib").origin).parent
    library = max(jaxlib.glob("*.so"), key=lambda file: file.stat().st_size)
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return [name for name in names if text.find(b"\0" + name.encode() + b"\0") >= 0]


def quick_flags() -> str:
    """QUICK for XLA_FLAGS."""
    return " ".join(f"--{name}={QUICK[name]}" for name in known_flags(QUICK))


# For `lower(...).compile(compiler_options=...)`: text and memory of the program are those that a user gets. Neither
# depends on LLVM, which comes after them.
FUSED_AS_USERS = dict.fromkeys(known_flags(["xla_cpu_use_fusion_emitters"]), True)
