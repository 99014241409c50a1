"""Preparing a source on all cores of one machine: can be stopped, killed, and started again."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from facenet_jax.datasets.exclude import RejectedFaces, read_list
from facenet_jax.datasets.names import write_names
from facenet_jax.datasets.open import open_listed
from facenet_jax.datasets.prepared import NAMES, is_prepared, shard_name
from facenet_jax.datasets.source import ListedFaces, Reader
from facenet_jax.errors import InputError
from facenet_jax.images.crop import CROPS, Crop
from facenet_jax.images.cut import FaceCutter
from facenet_jax.prepare.face import FacePreparer, prepare_face
from facenet_jax.prepare.job import PARTS, TOOL, Job, Workplace, part_faces
from facenet_jax.prepare.merge import merge_parts, tidy
from facenet_jax.prepare.parts import Abandoned, Part, clean, part_file, write_part
from facenet_jax.prepare.report import Report, read_report
from facenet_jax.runtime.cores import usable_cores
from facenet_jax.runtime.progress import Progress, Tally
from facenet_jax.runtime.shutdown import StopRequest

# As many pixels a side as the largest network of the paper takes.
DEFAULT_SIZE = 224
_TICK = 16


@dataclass(frozen=True)
class Outcome:
    """How a call of `prepare` ended.

    Attributes:
      report: of the whole dataset, if it is finished.
      signal: which asked it to stop before it was done, if one did.
      faces: of the source, done by this call.
      rate: of these, a second.
    """

    report: Report | None
    signal: signal.Signals | None
    faces: int
    rate: float


def prepare(
    source: Path,
    out: Path,
    *,
    crop: Crop = "tight",
    size: int = DEFAULT_SIZE,
    detector: Path | None = None,
    exclude: Path | None = None,
    workers: int | None = None,
    share: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> Outcome:
    """Prepares a source into a folder, or goes on where it stopped; the bytes are the same as if it never had.

    Args:
      source: see `open.open_listed`.
      out: the folder; what is in it is kept whole at any moment.
      crop, size: see `crop.crop_face`.
      detector: a YuNet model instead of the published one.
      exclude: a list of identities and faces (places within the source) to pass over, one a line.
      workers: processes; 0 works in this one, None takes one a core.
      share: (i, n): prepare only the i-th of n shares, counted from 0; `merge.merge` joins them in the end.
      progress: where to say how far it is.

    Raises:
      InputError: the source, the options or the folder are no good, or another process prepares into it.
      OSError: the disk is full, or the like; what was done before is kept.
    """
    _check(source, out, crop, size, share, workers)
    progress = progress or Progress()
    cutter = FaceCutter(crop, detector_file=detector)
    weights = cutter.detector.digest if cutter.detects else None  # what is missing is said before any work
    progress.line(f"listing {source}")
    faces = open_listed(source)
    if exclude is not None:
        faces = RejectedFaces(faces, read_list(exclude, "--exclude"))
        if unknown := faces.named.unknown:
            some = faces.named.some_unknown()
            progress.say(f"{len(unknown):,} of the names in {exclude} are nobody's here, such as {some}")
    job = Job(
        TOOL,
        faces.kind,
        faces.digest,
        faces.index.records,
        faces.ignored,
        len(faces.index.names),
        crop,
        0 if crop == "none" else size,
        weights,
        part_faces(faces.index.records),
    )
    place = Workplace(out, share)
    try:
        job = place.begin(job)
        if is_prepared(out):
            tidy(out)
            return Outcome(read_report(out), None, 0, 0.0)
        clean(out, share)
        _keep_names(out, faces)
        asked, done, rate = _work(
            job,
            faces,
            out,
            partial(prepare_face, cutter, size),
            usable_cores() if workers is None else workers,
            share,
            progress,
        )
        report = merge_parts(out, job, progress) if asked is None and share[1] == 1 else None
        return Outcome(report, asked, done, rate)
    finally:
        place.close()


def _check(source: Path, out: Path, crop: str, size: int, share: tuple[int, int], workers: int | None) -> None:
    if crop not in CROPS:
        raise InputError(f"There is no crop {crop!r}: choose one of {', '.join(CROPS)}.")
    if not 16 <= size <= 4096:
        raise InputError(f"--size={size}: choose a side between 16 and 4,096 pixels.")
    if workers is not None and workers < 0:
        raise InputError(f"--workers={workers}: choose 0 (this process) or the number of processes.")
    if not 0 <= share[0] < share[1]:
        raise InputError(f"--shard={share[0]}/{share[1]}: of n shares the first is 0/n and the last (n-1)/n.")
    inside = out.resolve()
    if inside == source.resolve() or (source.is_dir() and source.resolve() in inside.parents):
        raise InputError(f"{out} lies in {source}, which is read only: give a folder elsewhere.")


def _keep_names(out: Path, source: ListedFaces) -> None:
    # At once, because who merges the shares in the end need not have the source.
    (out / PARTS).mkdir(exist_ok=True)
    stem = out / NAMES
    stem.parent.mkdir(exist_ok=True)
    if Path(f"{stem}.npy").exists():
        return
    # Processes on two machines that share the folder may have the same number.
    temporary = stem.with_name(f".{stem.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    write_names(temporary, source.index.names, len(source.index.names))
    for suffix in (".txt", ".npy"):
        Path(f"{temporary}{suffix}").replace(f"{stem}{suffix}")


def _work(
    job: Job,
    source: ListedFaces,
    out: Path,
    prepare_one: FacePreparer,
    workers: int,
    share: tuple[int, int],
    progress: Progress,
) -> tuple[signal.Signals | None, int, float]:
    """Prepares what is missing of a share: (the signal that stopped it, faces done, faces a second)."""
    mine = range(share[0], job.parts, share[1])
    left = [number for number in mine if not _is_done(out, number, job.parts)]
    total = sum(_size(job, number) for number in mine)
    before = total - sum(_size(job, number) for number in left)
    if before:
        progress.say(f"{before:,} of {total:,} faces were prepared before")
    tally = Tally(progress, "preparing", total, before)
    message = "finishing the shards in hand, to save them" if workers else "finishing the shard in hand, to save it"
    with StopRequest(message) as stop:
        crew = _Crew(out, job, source.reader, prepare_one, workers)
        try:
            pending: set[Future[None]] = set()
            parts = _parts(job, source, left)
            while True:
                while stop.signal is None and len(pending) < 2 * max(workers, 1):
                    part = next(parts, None)
                    if part is None:
                        break
                    pending.add(crew.submit(part, lambda: _say(tally, crew, before)))
                if stop.signal is not None:
                    crew.stop()
                if not pending:
                    break
                finished, pending = wait(pending, 0.2, FIRST_COMPLETED)
                for future in finished:
                    future.result()
                _say(tally, crew, before)
        except BrokenProcessPool as error:
            raise OSError(
                errno.ENOMEM, "A worker process was killed, perhaps for want of memory (fewer --workers need less)"
            ) from error
        except MemoryError as error:
            raise OSError(errno.ENOMEM, "Not enough memory (fewer --workers need less)") from error
        finally:
            crew.close()
        done = crew.done
        unfinished = any(not _is_done(out, number, job.parts) for number in left)
        return (stop.signal if unfinished else None), done, tally.rate(before + done)


def _say(tally: Tally, crew: _Crew, before: int) -> None:
    tally.update(before + crew.done, f"{crew.rejected:,} rejected" if crew.rejected else "")


def _is_done(out: Path, number: int, parts: int) -> bool:
    return part_file(out, number).exists() and (out / shard_name(number, parts)).exists()


def _size(job: Job, number: int) -> int:
    return min(job.part_faces, job.source_faces - number * job.part_faces)


def _parts(job: Job, source: ListedFaces, numbers: list[int]) -> Iterator[Part]:
    for number in numbers:
        start = number * job.part_faces
        stop = start + _size(job, number)
        identities = source.index.identity_of(np.arange(start, stop, dtype=np.int64))
        yield Part(number, list(source.places(start, stop)), identities)


class _Crew:
    """The processes that work, or this one."""

    def __init__(self, out: Path, job: Job, reader: Reader, prepare_one: FacePreparer, workers: int) -> None:
        context = multiprocessing.get_context("spawn")  # a copy of a process that has threads may hang
        self._done, self._rejected = context.Value("q", 0), context.Value("q", 0)
        self._stop, self._abandon = context.Event(), context.Event()
        self._hand = (out, job.parts, reader, prepare_one, self._done, self._rejected, self._stop, self._abandon)
        self._pool = (
            ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=self._hand) if workers else None
        )

    @property
    def done(self) -> int:
        """Faces done so far."""
        return int(self._done.value)

    @property
    def rejected(self) -> int:
        """Faces rejected so far."""
        return int(self._rejected.value)

    def submit(self, part: Part, tick: Any) -> Future[None]:
        """Has a part done; where there are no processes, it is when this returns."""
        if self._pool:
            return self._pool.submit(_work_on, part)
        future: Future[None] = Future()
        _Hand(*self._hand).work_on(part, tick)
        future.set_result(None)
        return future

    def stop(self) -> None:
        """No part is begun any more."""
        self._stop.set()

    def close(self) -> None:
        """Ends the processes; whatever they still do is abandoned."""
        self._stop.set()
        self._abandon.set()
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Hand:
    """What a process needs to work."""

    out: Path
    parts: int
    reader: Reader
    prepare_one: FacePreparer
    done: Any
    rejected: Any
    stop: Any
    abandon: Any

    def work_on(self, part: Part, tick: Any = None) -> None:
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

        write_part(self.out, self.parts, part, self.reader, self.prepare_one, count)
        flush()


_hand: _Hand | None = None


def _start_worker(*hand: Any) -> None:
    global _hand
    _hand = _Hand(*hand)
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent says when to stop
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # Killed while this process was starting: a part begun now could lie in the way of the next command's.
        if not parent.is_alive():
            os._exit(1)
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _work_on(part: Part) -> None:
    assert _hand is not None
    _hand.work_on(part)
