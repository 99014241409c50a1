"""Batches of pixels: the plan's faces, decoded by worker processes, joined in order.

plan -> slabs -> batches. A slab is a constant number of rows of one batch, so that several workers share a batch and
what waits stays bounded whatever the batch's size. A worker writes a slab's pixels to their rows in a ring of batches
in shared memory (facenet_jax.input.ring) and sends the rest. Which face is in which row is the plan's decision, so
batches are the same for any number of workers, hosts and resumptions.
"""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.source import FaceSource
from facenet_jax.errors import InputError, TrainingError
from facenet_jax.images.decode import BadFace
from facenet_jax.input import workers as processes
from facenet_jax.input.plan import InOrder, Plan
from facenet_jax.input.ring import Ring
from facenet_jax.input.shared_memory import with_place
from facenet_jax.input.visits import PlannedFaces

# What a worker hands over at a time: many faces, since each slab costs this process half a millisecond; but all slabs
# that can be ahead take no more than _AHEAD_BYTES.
_SLAB_BYTES, _SLAB_ROWS = 2**23, 256
_AHEAD_BYTES = 2**29

_BATCHES_AHEAD = 2
_PLANS_KEPT = 4


class Batch(NamedTuple):
    """One host's rows of a global batch.

    Attributes:
      images: uint8 [rows, height, width, 3]; zeros where not valid. Or, of faces that are kept on the devices, that of
        the global batch there.
      labels: int32 [rows], identity numbers; -1 in rows that only pad.
      valid: bool [rows]; false where a row only pads or its face cannot be decoded.
      records: int64 [rows]; -1 in rows that only pad.
      status: uint8 [rows]; 0, or the decode.Reason why the face cannot be decoded.
    """

    images: NDArray[np.uint8] | jax.Array
    labels: NDArray[np.int32]
    valid: NDArray[np.bool_]
    records: NDArray[np.int64]
    status: NDArray[np.uint8]


@dataclass(frozen=True)
class Loader:
    """Loads the batches of a plan; call it for those from one step to another.

    Attributes:
      source: where the faces come from.
      plan: which faces make up a batch.
      size: (rows, columns) of an image in pixels.
      padded_size: rows of the global batch after masked rows are added at its end, a multiple of process_count (and of
        devices x chunk, which the caller ensures).
      workers: processes that decode; 0 decodes in threads of this one.
      process_index, process_count: which host this is, of how many; it loads rows process_index x L to
        (process_index + 1) x L of the padded batch, L = padded_size / process_count.

    Raises:
      InputError: padded_size is not a multiple of process_count, or workers is negative.
    """

    source: FaceSource
    plan: Plan
    size: tuple[int, int]
    padded_size: int
    workers: int = 0
    process_index: int = 0
    process_count: int = 1

    def __post_init__(self) -> None:
        if self.padded_size % self.process_count:
            raise InputError(
                f"A batch of {self.padded_size} rows cannot be divided among {self.process_count} hosts: "
                "pad it to a multiple of the number of devices."
            )
        if self.workers < 0:
            raise InputError(f"data.workers is {self.workers}: choose 0 (threads) or the number of processes.")

    def __call__(self, start_step: int, stop_step: int, lent: bool = False) -> Batches:
        """This host's part of the batches of steps start_step, ..., stop_step - 1.

        Args:
          start_step, stop_step: global steps.
          lent: pixels stay where the workers wrote them, and hold until the next batch is asked for; else each batch
            has its own.

        Returns:
          An iterator of (step, Batch) that reads ahead; close it, or use it in a `with` statement, to end its workers.

        Raises:
          TrainingError: a worker process died. Whatever else a worker raises is raised here too.
        """
        reader = _SlabReader(self, start_step, self._ring(lent))
        return Batches(_joined(reader, range(start_step, stop_step), lent), reader.ring if lent else None)

    def _ring(self, lent: bool) -> Ring:
        rows, (height, width) = self.padded_size // self.process_count, self.size
        most_ahead = processes.most_ahead(self.workers)
        slab_bytes = min(_SLAB_BYTES, _AHEAD_BYTES // most_ahead)
        slabs = -(-rows // max(1, min(_SLAB_ROWS, slab_bytes // (3 * height * width))))
        slab_rows = -(-rows // slabs)  # all about as large, so that workers have as much to do
        # The place of a batch that is read must not be reached by workers, who are ahead of what has been taken from
        # them; where it is lent, all batches that wait have been taken too.
        ahead = -(-most_ahead // -(-rows // slab_rows))
        return Ring(1 + ahead + (_BATCHES_AHEAD if lent else 0), (rows, height, width, 3), slab_rows)

    def planned(self, step: int) -> PlannedFaces:
        """Which faces are in this host's rows of the batch of a step; -1 in rows that only pad."""
        rows = self.padded_size // self.process_count
        return _padded(self.plan.batch(step), self.process_index * rows, rows)


class Batches(Iterator[tuple[int, Batch]]):
    """An iterator of (step, Batch) whose workers end when it does: exhausted, failed, closed or left by `with`."""

    def __init__(self, joined: Generator[tuple[int, Batch], None, None], lent: Ring | None) -> None:
        self._joined = joined
        self._lent, self._given = lent, 0
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[tuple[int, Batch] | None]] = deque()
        # Closed before the interpreter ends even if forgotten: Grain's iterators close themselves again when they are
        # deleted, which fails once its modules are gone.
        self._close = weakref.finalize(self, _end, self._thread, joined, self._waiting)

    def __next__(self) -> tuple[int, Batch]:
        if not self._close.alive:
            raise StopIteration
        if self._lent is not None and self._given:
            self._lent.check(self._given - 1)
        # The workers start with the first batch, and inherit what is held back here: a Ctrl-C on a terminal, which goes
        # to every process, must not end them before they know to ignore it.
        with processes.signals_held_back():
            while len(self._waiting) <= _BATCHES_AHEAD:
                self._waiting.append(self._thread.submit(next, self._joined, None))
        try:
            batch = self._waiting.popleft().result()
        except Exception as error:
            self.close()
            if processes.died(error):
                raise TrainingError(
                    f"A worker process that decodes faces has died ({error}) {processes.why_died(error)}."
                ) from error
            if isinstance(error, OSError):
                raise with_place(error, "--config.data.workers") from error
            raise
        if batch is None:
            self.close()
            raise StopIteration
        self._given += 1
        return batch

    def close(self) -> None:
        """Ends the workers and waits for them; closing twice does nothing more."""
        self._close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _end(thread: ThreadPoolExecutor, joined: Generator[Any, None, None], waiting: deque[Any]) -> None:
    thread.shutdown(cancel_futures=True)
    joined.close()
    waiting.clear()
    gc.collect()  # Grain's iterators and the ring hang in cycles of its frames and the exceptions that ended them


class _Slab(NamedTuple):
    """All of a slab but its pixels, which are in the ring."""

    labels: NDArray[np.int32]
    records: NDArray[np.int64]
    status: NDArray[np.uint8]


class _SlabReader:
    """Slab number -> its rows. Runs in the workers, in several threads of each.

    Attributes:
      ring: where the pixels are.
      rows: of this host's part of a batch.
    """

    def __init__(self, loader: Loader, start_step: int, ring: Ring) -> None:
        self.loader, self.ring = loader, ring
        self.rows = loader.padded_size // loader.process_count
        self._start_step = start_step
        self._plans: OrderedDict[int, PlannedFaces] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, slab: int) -> _Slab:
        loader = self.loader
        step, part = divmod(slab, self.ring.slabs)
        step += self._start_step
        first = loader.process_index * self.rows
        start, stop = first + part * self.ring.slab_rows, first + min(self.rows, (part + 1) * self.ring.slab_rows)
        records, labels = _padded(self._planned(step), start, stop - start)
        images = self.ring.begin(slab)
        images[records < 0] = 0
        status = np.zeros(len(records), np.uint8)
        for row in np.flatnonzero(records >= 0):
            record = int(records[row])
            try:
                images[row] = loader.source.load(record, loader.size)
            except BadFace as bad:
                images[row] = 0
                status[row] = bad.reason
            except Exception as error:
                error.add_note(f"while loading {loader.source.describe(record)}")
                raise
        self.ring.end(slab)
        return _Slab(labels, records, status)

    def _planned(self, step: int) -> PlannedFaces:
        with self._lock:
            if step not in self._plans:
                self._plans[step] = self.loader.plan.batch(step)
                if len(self._plans) > _PLANS_KEPT:
                    self._plans.popitem(last=False)
            return self._plans[step]

    def __reduce__(self) -> tuple[Callable[..., _SlabReader], tuple[Any, ...]]:
        return _SlabReader, (self.loader, self._start_step, self.ring)


def _padded(planned: PlannedFaces, start: int, rows: int) -> PlannedFaces:
    # Rows start, ..., start + rows - 1 of a batch; -1 beyond its end.
    records, labels = np.full(rows, -1, np.int64), np.full(rows, -1, np.int32)
    there = len(planned.records[start : start + rows])
    records[:there], labels[:there] = (part[start : start + there] for part in planned)
    return PlannedFaces(records, labels)


def _joined(reader: _SlabReader, steps: range, lent: bool) -> Generator[tuple[int, Batch], None, None]:
    """Starts the workers, joins their slabs into batches, and ends them."""
    ring, rows = reader.ring, reader.rows
    slabs = processes.in_order(reader, len(steps) * ring.slabs, reader.loader.workers)
    try:
        for number, step in enumerate(steps):
            labels, records, status = np.empty(rows, np.int32), np.empty(rows, np.int64), np.empty(rows, np.uint8)
            first = 0
            for slab in itertools.islice(slabs, ring.slabs):
                part = slice(first, first + len(slab.records))
                labels[part], records[part], status[part] = slab
                first = part.stop
            images = ring.batch(number)
            if not lent:
                images = images.copy()
                ring.check(number)
            yield step, Batch(images, labels, (records >= 0) & (status == 0), records, status)
    finally:
        slabs.close()


def embedding_batches(
    source: FaceSource,
    records: NDArray[np.int64],
    size: tuple[int, int],
    batch_size: int,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Loads the given faces once, in order, for evaluation.

    Args:
      source: where the faces come from.
      records: int64 [faces].
      size: (rows, columns) of an image in pixels.
      batch_size: rows of every batch; the last one is padded.
      workers: processes that decode; 0 decodes in threads of this one.
      process_index, process_count: which host this is, of how many; each has its rows of every batch.

    Yields:
      Batches of batch_size / process_count rows, without labels.
    """
    loader = Loader(
        source,
        InOrder(np.asarray(records, np.int64), batch_size),
        size,
        batch_size,
        workers=workers,
        process_index=process_index,
        process_count=process_count,
    )
    with loader(0, -(-len(records) // batch_size)) as batches:
        for _, batch in batches:
            yield batch
