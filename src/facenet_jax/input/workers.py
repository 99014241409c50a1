"""What it takes to live with Grain's worker processes: signals, deaths, exceptions, shared memory."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Iterator

import grain
from absl import flags

from facenet_jax.runtime.cores import usable_cores


def read_options(workers: int) -> grain.ReadOptions:
    """How many slabs a worker, or this process, decodes at once."""
    # Pillow releases the interpreter's lock while it decodes, so threads help; a worker needs two, one to read a file
    # while the other decodes.
    threads = 2 if workers else min(8, usable_cores())
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads if workers else 2 * threads)


def let_grain_read_its_flag() -> None:
    """Keeps Grain's workers from failing where no command line was parsed."""
    # Where JAX is installed, Grain 0.2.18 asks for this flag before it starts a worker, and absl refuses while no
    # command line has been parsed, as in a notebook or a test: say that this one flag stands at its default.
    name = "grain_enable_multiprocess_worker_profiling"
    if not flags.FLAGS.is_parsed() and name in flags.FLAGS:
        flags.FLAGS[name].present = True


def start_worker(index: int, count: int) -> None:
    """What a worker does first: Grain's `worker_init_fn`."""
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


def sendable(error: Exception) -> Exception:
    """An exception as it can be sent to the main process."""
    # An exception that cannot be pickled would be lost between the processes, and the main one would wait for ever.
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Starts workers within it: they inherit that SIGINT and SIGTERM wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def close_iterator(batches: list[grain.DatasetIterator]) -> None:
    """Ends an iterator's workers, and lets go of the memory that they shared; the list is emptied."""
    batches.pop().close()
    # If the program ended before all shared memory is freed, Python would complain of what is left. Each worker's last
    # piece hangs in a cycle of one of Grain's frames and the exception that ended it; and Grain frees in a thread of
    # its own, whose queue is first in, first out.
    gc.collect()
    freeing = getattr(grain.multiprocessing.SharedMemoryArray, "_del_thread_pool", None)
    if freeing is not None:
        with contextlib.suppress(ValueError):  # it has ended already
            freeing.apply_async(int).wait(timeout=10)
