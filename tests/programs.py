"""How tests compile: quickly; where a test looks into a program, that program is fused as a user's is."""

import mmap
from importlib.util import find_spec
from pathlib import Path

# A step of the smallest run then compiles in 1.3 s in place of 14, and takes 40 ms in place of 13. What is computed is
# compared with references that do not use XLA, or with itself compiled alike, so LLVM's optimising is not missed.
QUICK = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": "true",
    "xla_cpu_use_fusion_emitters": "false",
}
# For `lower(...).compile(compiler_options=...)`: text and memory of the program are those that a user gets. Neither
# depends on LLVM, which comes after them.
FUSED_AS_USERS = {"xla_cpu_use_fusion_emitters": True}


def quick_flags() -> str:
    """QUICK for XLA_FLAGS. XLA ends the process over a flag that it does not know: such are left out."""
    jaxlib = Path(find_spec("jaxlib").origin).parent
    library = max(jaxlib.glob("*.so"), key=lambda file: file.stat().st_size)
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return " ".join(f"--{name}={value}" for name, value in QUICK.items() if text.find(name.encode()) >= 0)
