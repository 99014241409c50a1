"""The cache of compiled programs on disk, and messages about compilations that take long."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facenet_jax.runtime.progress import Progress, duration

if TYPE_CHECKING:  # JAX reads its variables when it is imported
    import jax

# JAX's own: where programs are kept (nothing: nowhere), and from how many seconds of compiling on.
_FOLDER, _FROM_SECONDS = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
# What is compiled sooner is not worth a line.
_LONG_SECONDS = 2.0
_HIT, _MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"

# In the text of a program: tables of files and lines at its head, and what each instruction was made from. They are
# not those of a program that was kept.
_OF_THE_SOURCE = re.compile(
    r"""^(?:FileNames|FunctionNames|FileLocations|StackFrames|\d+ ).*\n|, metadata=\{(?:[^}"]|"[^"]*")*\}""",
    re.MULTILINE,
)


def keep_compiled() -> None:
    """Makes JAX keep what it compiles in `$XDG_CACHE_HOME/facenet-jax/compiled`; to be called before JAX is imported.

    A folder in JAX_COMPILATION_CACHE_DIR is taken in its place; that variable set to nothing, or
    JAX_ENABLE_COMPILATION_CACHE=false, keeps nothing. A folder that cannot be written is reported, and nothing is kept.
    """
    given = os.environ.get(_FOLDER)
    if given == "" or "://" in (given or ""):  # off, or in a bucket, which is left to JAX
        return
    try:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(given) if given else Path(caches, "facenet-jax", "compiled")
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError) as error:  # the second where the user's home folder is unknown
        os.environ[_FOLDER] = ""
        print(
            f"facenet-jax: compiled programs are not kept, because their folder cannot be written ({error}); set "
            f"{_FOLDER} to another, or to nothing.",
            file=sys.stderr,
        )
        return
    os.environ[_FOLDER] = str(folder)
    os.environ.setdefault(_FROM_SECONDS, "0.5")


@contextmanager
def compiling(what: str, say: Callable[[str], None], at_once: bool = False) -> Iterator[None]:
    """Says what is compiled within `with` if it takes long: so far, and at its end how long, or that it was kept.

    Args:
      what: such as "a step of nn2".
      say: takes a line for the screen.
      at_once: say it at the start, and at the end in any case.
    """
    seen, before, started = _events(), _events().copy(), time.perf_counter()
    line = f"compiling       {what}"
    later = threading.Timer(_LONG_SECONDS, say, [line])
    if at_once:
        say(line)
    else:
        later.start()
    try:
        yield
    finally:
        later.cancel()
    seconds = time.perf_counter() - started
    if at_once or seconds >= _LONG_SECONDS:
        kept = seen[_HIT] > before[_HIT] and seen[_MISS] == before[_MISS]
        say(f"compiled        {'before, kept, and read ' if kept else ''}in {duration(seconds)}")


def announced(function: jax.stages.Wrapped, what: str) -> Callable[..., Any]:
    """A jitted function of which the screen says when it takes long to compile, as for the first arrays of a shape."""
    import jax

    programs: dict[Any, Any] = {}

    def call(*arguments: Any) -> Any:
        arrays = jax.tree.leaves(arguments)
        key = tuple((jax.numpy.shape(array), getattr(array, "sharding", None)) for array in arrays)
        if key not in programs:  # compiled apart from the call, which on a CPU takes as long as the program runs
            with compiling(what, Progress(quiet=jax.process_index() != 0).say):
                programs[key] = function.lower(*arguments).compile()
        return programs[key](*arguments)

    return call


def deterministic_options(asked: bool, platform: str) -> dict[str, bool] | None:
    """Compiler options with which XLA gives the same bits in every process, where it would not without them: on a GPU.

    There it times kernels while compiling and takes the fastest, another one in another process, and some sum in the
    order in which their parts come.
    """
    return {"xla_gpu_deterministic_ops": True} if asked and platform == "gpu" else None


def fingerprint(programs: Iterable[jax.stages.Compiled]) -> str:
    """Of compiled programs: another where XLA chose other instructions or kernels, wherever the source lies."""
    found = hashlib.blake2b(digest_size=16)
    for program in programs:
        found.update(_OF_THE_SOURCE.sub("", program.as_text() or "").encode())
    return found.hexdigest()


@cache
def _events() -> Counter[str]:
    """How often JAX found a program that was kept, and how often it kept another."""
    import jax

    seen: Counter[str] = Counter()

    def count(event: str, **_: str | int) -> None:
        seen[event] += 1

    jax.monitoring.register_event_listener(count)
    return seen
