"""Runs a function in Grain's worker processes; the only module that uses Grain's processes.

Public Grain does the work: a range, a function, threads and processes, results in order. What it lacks (0.2.18) is made
up for below, each with its reason: a start without absl's command line (`_let_grain_read_its_flag`), signals that leave
workers alone (`signals_held_back`, `_start_worker`), workers that end with a parent that was killed
(`_end_with_parent`), exceptions that cannot be pickled (`_Sendable`) and an exception of its own for a worker's death
(`died`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any

import grain
from absl import flags

from facenet_jax.runtime.cores import usable_cores

_WAITING = 2  # results of each worker
# By these it may be ahead of what has been taken, at most: `_WAITING` in its queue and as many again where results are
# put in order, those in work in its threads and as many that wait for them; and some to spare.
_AHEAD = 12

# Larger arrays would go through shared memory of their own, in /dev/shm: a result holds none (pixels go through
# `Ring`). All that wait must fit into the pipe (64 kB), or a worker that is asked to end while it is full hangs until
# Grain kills it after 25 s.
_SHARED_BYTES = 2**12


def in_order(function: Callable[[int], Any], numbers: int, workers: int) -> grain.DatasetIterator[Any]:
    """Results of function(0), ..., function(numbers - 1), in order, worked out ahead.

    Args:
      function: can be pickled; several threads of a process call it at once. Its results are small.
      numbers: how many.
      workers: processes; 0: threads of this one.

    Returns:
      An iterator, to be closed. The processes start with its first result.
    """
    _let_grain_read_its_flag()
    threads = _threads(workers)
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads if workers else 2 * threads)
    results = grain.MapDataset.range(numbers).map(_Sendable(function)).to_iter_dataset(reading)
    options = grain.experimental.DatasetOptions(min_shm_size=_SHARED_BYTES)
    return iter(
        grain.experimental.WithOptionsIterDataset(results, options).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_WAITING),
            worker_init_fn=_start_worker,
        )
    )


def most_ahead(workers: int) -> int:
    """How many results of `in_order` can be worked out or in work at once beyond those taken: fewer than this."""
    return _AHEAD * workers if workers else 2 * _threads(workers) + 2


def died(error: Exception) -> bool:
    """Whether an exception says that a worker process has died."""
    # Grain raises a RuntimeError as it would for anything else, and gives the exit code in its text only.
    return "terminated unexpectedly" in str(error)


def why_died(error: Exception) -> str:
    """What the exit code in such an exception means, and what to do about it."""
    code = re.search(r"exit code (-?\d+)", str(error))
    if code is not None and int(code[1]) > 0:
        return (
            "It ended by itself, and what it printed says why: a program that trains must be a file, its calls under "
            '`if __name__ == "__main__":`; --config.data.workers=0 needs none'
        )
    return (
        "Exit code -9 means that it was killed, most often because memory ran out; -7 that /dev/shm is full: lower "
        "data.workers or enlarge what is short"
    )


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Starts workers, and the threads that start them, within it: they inherit that SIGINT and SIGTERM wait."""
    # Grain's `worker_init_fn` comes too late: a Ctrl-C on a terminal, which goes to every process, would end a worker
    # that still imports.
    resource_tracker.ensure_running()  # started with the first worker, it would let both signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _threads(workers: int) -> int:
    # Pillow releases the interpreter's lock while it decodes, so threads help; a worker needs two, one to read a file
    # while the other decodes.
    return 2 if workers else min(8, usable_cores())


def _let_grain_read_its_flag() -> None:
    # Where JAX is installed, Grain asks for this flag before it starts a worker, and absl refuses while no command line
    # has been parsed, as in a notebook or a test: say that this one flag stands at its default.
    name = "grain_enable_multiprocess_worker_profiling"
    if not flags.FLAGS.is_parsed() and name in flags.FLAGS:
        flags.FLAGS[name].present = True


def _start_worker(index: int, count: int) -> None:
    # An interrupt or a notice of preemption goes to the main process, which may want to save first and ends its workers
    # itself; if it cannot because it was killed, they notice.
    del index, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Pillow's remarks on odd files: those that matter come back as a status.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _Sendable:
    """A function whose exceptions can be sent to the main process."""

    def __init__(self, function: Callable[[int], Any]) -> None:
        self._function = function

    def __call__(self, number: int) -> Any:
        try:
            return self._function(number)
        except Exception as error:
            # One that cannot be pickled would be lost between the processes, and the main one would wait for ever.
            try:
                pickle.loads(pickle.dumps(error))
            except Exception:
                raise RuntimeError(f"{type(error).__name__}: {error}") from None
            raise error from None
