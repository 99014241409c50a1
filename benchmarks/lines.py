"""Runs contenders in processes of their own and asks them for one measurement at a time, by lines of JSON.

So peers with another Python environment can take turns with ours, each under the same memory limit, and one that runs
out of memory ends alone. It needs only the standard library, since the peers' environment imports it too.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_OUT_OF_MEMORY = ("bad_alloc", "can't allocate memory", "RESOURCE_EXHAUSTED", "MemoryError", "Out of memory")


class Refused(Exception):
    """A measurement could not be taken; the message goes into the table."""


class Child:
    """A process that runs a module with `serve`, under a limit of memory and of processors."""

    def __init__(
        self, python: str | Path, module: str, *, threads: int, memory: int, variables: Mapping[str, str] | None = None
    ) -> None:
        """Starts it.

        Args:
          python: the interpreter.
          module: what to run, `benchmarks.…`.
          threads: how many processors it may use.
          memory: bytes of address space it may use.
          variables: of the environment, beyond this process's own.
        """
        processors = sorted(os.sched_getaffinity(0))[:threads]

        def limit() -> None:
            os.sched_setaffinity(0, processors)
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

        # JAX's and PyTorch's thread pools go by the process's affinity; these variables are for other libraries.
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"} | dict(variables or {})
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the child
        self._process = subprocess.Popen(
            [python, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env=environment,
            preexec_fn=limit,
        )

    def ask(self, timeout: float, task: str, **arguments: Any) -> dict[str, Any]:
        """The reply to a task.

        Raises:
          Refused: it ran out of memory, was too slow (and was killed), or ended by itself.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"task": task} | arguments) + "\n")
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(timeout):
                    process.kill()
                    raise Refused(f"over {timeout:.0f} s")
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Refused(self._last_words())
        reply: dict[str, Any] = json.loads(line)
        if "refused" in reply:
            raise Refused(reply["refused"])
        return reply

    def close(self) -> None:
        """Ends it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        text = self._errors.read()
        if any(words in text for words in _OUT_OF_MEMORY):
            return "out of memory"
        last = (text.strip().splitlines() or ["nothing said"])[-1]
        return f"ended by {signal.Signals(-status).name}" if status < 0 else f"failed: {last}"


def serve(tasks: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Answers lines from standard input until it ends: {"task": name, argument: value, …} -> {…} or {"refused": words}.

    All other output goes to standard error.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = tasks[request.pop("task")](**request)
        except Refused as error:
            reply = {"refused": str(error)}
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not any(words in str(error) for words in _OUT_OF_MEMORY):
                raise
            reply = {"refused": "out of memory"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def timed(function: Callable[[], float], calls: int) -> dict[str, Any]:
    """Seconds a call, the last value, the bytes by which the process grew, and the most that it ever held."""
    earlier_peak = _memory("VmHWM")
    _reset_peak()
    before = _memory("VmRSS")
    started = time.perf_counter()
    for _ in range(calls):
        value = function()
    seconds = (time.perf_counter() - started) / calls
    peak = _memory("VmHWM")
    return {"seconds": seconds, "value": value, "grown": max(peak - before, 0), "peak": max(peak, earlier_peak)}


def _reset_peak() -> None:
    """Sets the process's highest memory (VmHWM) to what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> int:
    """Bytes of resident memory, now (VmRSS) or at most (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
