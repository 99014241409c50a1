"""Runs the worker processes that write a share's shards, until all are done or a signal asks to stop."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from facenet_jax.datasets.source import ListedFaces
from facenet_jax.input.shared_memory import PLACE, with_place
from facenet_jax.prepare.job import Job
from facenet_jax.prepare.shards import Abandoned, ShardFaces, ShardWriter
from facenet_jax.runtime.progress import Progress, Tally
from facenet_jax.runtime.shutdown import StopRequest

_TICK = 16


def write_shards(
    job: Job, source: ListedFaces, writer: ShardWriter, share: tuple[int, int], workers: int, progress: Progress
) -> tuple[signal.Signals | None, int, float]:
    """Writes the shards that are missing of a share.

    Args:
      job: whose shards they are.
      source: what they are made from.
      writer: writes each.
      share: (i, n): of every n shards the i-th, from 0.
      workers: processes; 0 works in this one.
      progress: where to report progress.

    Returns:
      (the signal that stopped it before it was done, faces done, faces a second).

    Raises:
      OSError: the disk is full, memory is short, or the like.
    """
    mine = range(share[0], job.shards, share[1])
    left = [number for number in mine if not writer.is_done(number)]
    total = sum(len(job.faces_of(number)) for number in mine)
    before = total - sum(len(job.faces_of(number)) for number in left)
    if before:
        progress.say(f"{before:,} of {total:,} faces were prepared before")
    tally = Tally(progress, "preparing", total, before)
    message = "finishing the shards in hand, to save them" if workers else "finishing the shard in hand, to save it"
    with StopRequest(message) as stop:
        pool = _Pool(writer, workers)

        def say() -> None:
            tally.update(before + pool.done, f"{pool.rejected:,} rejected" if pool.rejected else "")

        try:
            pending: set[Future[None]] = set()
            to_write = _faces_of_shards(job, source, left)
            while True:
                while stop.signal is None and len(pending) < 2 * max(workers, 1):
                    faces = next(to_write, None)
                    if faces is None:
                        break
                    pending.add(pool.submit(faces, say))
                if stop.signal is not None:
                    pool.stop()
                if not pending:
                    break
                finished, pending = wait(pending, 0.2, FIRST_COMPLETED)
                for future in finished:
                    future.result()
                say()
        except BrokenProcessPool as error:
            raise pool.why_broken() from error
        except MemoryError as error:
            raise OSError(errno.ENOMEM, "Not enough memory (fewer --workers need less)") from error
        finally:
            pool.close()
        unfinished = any(not writer.is_done(number) for number in left)
        return (stop.signal if unfinished else None), pool.done, tally.rate(before + pool.done)


def _faces_of_shards(job: Job, source: ListedFaces, numbers: list[int]) -> Iterator[ShardFaces]:
    for number in numbers:
        faces = job.faces_of(number)
        identities = source.index.identity_of(np.array(faces, np.int64))
        yield ShardFaces(number, list(source.places(faces.start, faces.stop)), identities)


class _Pool:
    """The processes that write shards, or this one."""

    def __init__(self, writer: ShardWriter, workers: int) -> None:
        context = multiprocessing.get_context("spawn")  # a copy of a process that has threads may hang
        self._known: dict[int, BaseProcess] = {}
        try:
            self._done, self._rejected = context.Value("q", 0), context.Value("q", 0)
            self._started = context.Value("q", 0)
            self._stop, self._abandon = context.Event(), context.Event()
        except OSError as error:
            raise with_place(error, "--workers") from error
        worker = (writer, self._done, self._rejected, self._stop, self._abandon)
        self._here = _Worker(*worker)
        self._processes = None
        if workers:
            try:
                self._processes = ProcessPoolExecutor(
                    workers, context, initializer=_start_worker, initargs=(self._started, *worker)
                )
            except OSError as error:
                raise with_place(error, "--workers") from error

    @property
    def done(self) -> int:
        """Faces done so far."""
        return int(self._done.value)

    @property
    def rejected(self) -> int:
        """Faces rejected so far."""
        return int(self._rejected.value)

    def submit(self, faces: ShardFaces, tick: Callable[[], None]) -> Future[None]:
        """Has a shard written; where there are no processes, it is when this returns."""
        if self._processes:
            try:
                return self._processes.submit(_write_shard, faces)
            finally:
                self._known |= self._processes._processes or {}  # where it breaks, the executor forgets them
        future: Future[None] = Future()
        self._here.write(faces, tick)
        future.set_result(None)
        return future

    def why_broken(self) -> OSError:
        """What ended a worker process, as far as its exit code says."""
        for process in self._known.values():
            process.join(1)
        # Those that did not end by themselves were then ended by SIGTERM.
        codes = [process.exitcode for process in self._known.values() if process.exitcode not in (None, 0)]
        code = next((code for code in codes if code != -signal.SIGTERM), -signal.SIGTERM)
        less = "(fewer --workers need less)"
        if code == -signal.SIGKILL:
            what = f"A worker process was killed (SIGKILL), perhaps because memory ran out {less}"
            return OSError(errno.ENOMEM, what)
        if code == -signal.SIGBUS:
            return OSError(errno.ENOSPC, f"A worker process ended with SIGBUS, as where memory is full {less}", PLACE)
        how = f"with the exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        if not self._started.value:
            return OSError(
                errno.ECHILD,
                f"The worker processes could not start (one ended {how}; what it printed says why): a program "
                'that prepares must be a file, its calls under `if __name__ == "__main__":`; --workers=0 needs none',
            )
        return OSError(errno.ECHILD, f"A worker process ended {how}; what it printed may say why")

    def stop(self) -> None:
        """No shard is begun any more."""
        self._stop.set()

    def close(self) -> None:
        """Ends the processes; whatever they still do is abandoned."""
        self._stop.set()
        self._abandon.set()
        if self._processes:
            self._processes.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Worker:
    """What a process has to work with: the writer, and counts and events that all processes share."""

    writer: ShardWriter
    done: Any
    rejected: Any
    stop: Any
    abandon: Any

    def write(self, faces: ShardFaces, tick: Callable[[], None] | None = None) -> None:
        if self.stop.is_set():
            return
        counts = [0, 0]

        def count(done: int, rejected: int) -> None:
            counts[0] += done
            counts[1] += rejected
            if counts[0] >= _TICK:
                flush()
                if tick:
                    tick()
                if self.abandon.is_set():
                    raise Abandoned

        def flush() -> None:
            for shared, number in zip((self.done, self.rejected), counts, strict=True):
                with shared.get_lock():
                    shared.value += number
            counts[:] = [0, 0]

        self.writer.write(faces, count)
        flush()


_worker: _Worker | None = None


def _start_worker(started: Any, *worker: Any) -> None:
    global _worker
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent says when to stop
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # Killed while this process was starting: a shard begun now could lie in the way of the next command's.
        if not parent.is_alive():
            os._exit(1)
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    with started.get_lock():
        started.value += 1
    _worker = _Worker(*worker)


def _die_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _write_shard(faces: ShardFaces) -> None:
    assert _worker is not None
    _worker.write(faces)
