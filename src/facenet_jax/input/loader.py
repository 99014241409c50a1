"""Batches of pixels: the plan's faces, decoded by worker processes, joined in order.

The work is dealt out in slabs, a constant number of rows of one batch, so that several workers share a batch and memory
stays bounded whatever the batch's size. Which face is in which row is the plan's decision, so batches are the same for
any number of workers, hosts and resumptions.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import grain
import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.source import FaceSource
from facenet_jax.errors import InputError, TrainingError
from facenet_jax.images import change as augment
from facenet_jax.images.decode import BadFace
from facenet_jax.input.plan import Plan, PlannedBatch
from facenet_jax.input.slots import Slots
from facenet_jax.input.workers import (
    close_iterator,
    let_grain_read_its_flag,
    read_options,
    sendable,
    signals_held_back,
    start_worker,
)

# What a worker hands over at a time.
_SLAB_BYTES = 2**21
_SLAB_ROWS = 64
_SLABS_WAITING = 2

# Grain lets a worker be about seven slabs ahead of what is read here.
_SLOTS_A_WORKER = 12

# Larger arrays would go through shared memory of their own; only pixels are larger, and they go through `Slots`. All
# that wait must fit into the pipe (64 kB), or a worker that is told to end while it is full hangs until Grain kills it
# after 25 s.
_SHARED_BYTES = 2**12

_BATCHES_WAITING = 1
_NO_CHANGES = augment.Changes()
_PLANS_KEPT = 4


class Batch(NamedTuple):
    """One host's rows of a global batch.

    Attributes:
      images: uint8 [rows, height, width, 3]; zeros where not valid.
      labels: int32 [rows], identity numbers; -1 in rows that only pad.
      valid: bool [rows]; false where a row only pads or its face cannot be decoded.
      records: int64 [rows]; -1 in rows that only pad.
      status: uint8 [rows]; 0, or the decode.Reason why the face cannot be decoded.
    """

    images: NDArray[np.uint8]
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
        devices x chunk, which is the caller's affair).
      seed: the run's seed, for the flips and the changes.
      flip: whether to mirror half of the faces.
      changes: what else is done to them at random.
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
    seed: int = 0
    flip: bool = True
    changes: augment.Changes = _NO_CHANGES
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

    def __call__(self, start_step: int, stop_step: int) -> Batches:
        """This host's part of the batches of steps start_step, ..., stop_step - 1.

        Returns:
          An iterator of (step, Batch) that reads ahead; close it, or use it in a `with` statement, to end its workers.

        Raises:
          TrainingError: a worker process died. Whatever else a worker raises is raised here too.
        """
        let_grain_read_its_flag()
        rows = self.padded_size // self.process_count
        height, width = self.size
        slab_rows = min(rows, _SLAB_ROWS, max(1, _SLAB_BYTES // (3 * height * width)))
        slabs_per_step = -(-rows // slab_rows)
        steps = max(0, stop_step - start_step)
        slots = Slots(_SLOTS_A_WORKER * self.workers, (slab_rows, height, width, 3)) if self.workers else None
        read = _ReadSlab(self, start_step, slab_rows, slabs_per_step, slots)
        slabs = grain.MapDataset.range(steps * slabs_per_step).map(read).to_iter_dataset(read_options(self.workers))
        slabs = grain.experimental.WithOptionsIterDataset(
            slabs, grain.experimental.DatasetOptions(min_shm_size=_SHARED_BYTES)
        ).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=self.workers, per_worker_buffer_size=_SLABS_WAITING),
            worker_init_fn=start_worker,
        )
        join = _Joined(slabs, start_step, steps, (rows, height, width, 3), slots)
        return Batches(iter(grain.experimental.ThreadPrefetchIterDataset(join, prefetch_buffer_size=_BATCHES_WAITING)))


class Batches(Iterator[tuple[int, Batch]]):
    """An iterator of (step, Batch) whose workers end when it does: exhausted, failed, closed or left by `with`."""

    def __init__(self, batches: grain.DatasetIterator) -> None:
        # Held in a list that closing empties, and closed before the interpreter ends even if forgotten: Grain's
        # iterators close themselves again when they are deleted, which fails once its modules are gone.
        self._batches = [batches]
        self._close = weakref.finalize(self, close_iterator, self._batches)
        self._started = False

    def __next__(self) -> tuple[int, Batch]:
        if not self._close.alive:
            raise StopIteration
        try:
            # The workers start with the first batch, and inherit what is held back here: a Ctrl-C on a terminal, which
            # goes to every process, must not end them before they know to ignore it.
            with signals_held_back() if not self._started else contextlib.nullcontext():
                self._started = True
                return next(self._batches[0])
        except StopIteration:
            pass
        except Exception as error:
            self.close()
            if "terminated unexpectedly" in str(error):
                raise TrainingError(
                    f"A worker process that decodes faces has died ({error}) Exit code -9 means that it was killed, "
                    "most often for want of memory; -7 that /dev/shm is full: lower data.workers or enlarge what is "
                    "short."
                ) from error
            raise
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Ends the workers and waits for them; closing twice does nothing more."""
        self._close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Slab(NamedTuple):
    images: NDArray[np.uint8] | None  # None: in the slots
    labels: NDArray[np.int32]
    records: NDArray[np.int64]
    status: NDArray[np.uint8]


class _ReadSlab:
    """Slab number -> its rows. Runs in the workers, in several threads of each."""

    def __init__(self, loader: Loader, start_step: int, rows: int, slabs_per_step: int, slots: Slots | None) -> None:
        self._loader = loader
        self._start_step = start_step
        self._rows = rows
        self._slabs_per_step = slabs_per_step
        self._slots = slots
        self._plans: OrderedDict[int, PlannedBatch] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, slab: int) -> _Slab:
        try:
            return self._read(slab)
        except Exception as error:
            raise sendable(error) from None

    def _read(self, slab: int) -> _Slab:
        loader = self._loader
        step, part = divmod(slab, self._slabs_per_step)
        step += self._start_step
        local = loader.padded_size // loader.process_count
        first = loader.process_index * local
        start, stop = first + part * self._rows, first + min(local, (part + 1) * self._rows)
        batch = self._planned(step)
        records = np.full(stop - start, -1, np.int64)
        labels = np.full(stop - start, -1, np.int32)
        records[: len(batch.records[start:stop])] = batch.records[start:stop]
        labels[: len(batch.records[start:stop])] = batch.labels[start:stop]
        mirrored = augment.flips(loader.seed, step, records) if loader.flip else np.zeros(len(records), bool)
        images = self._slots.begin(slab) if self._slots else np.empty((len(records), *loader.size, 3), np.uint8)
        images[: len(records)][records < 0] = 0
        status = np.zeros(len(records), np.uint8)
        for row in np.flatnonzero(records >= 0):
            record = int(records[row])
            try:
                image = loader.source.load(record, loader.size)
                if loader.changes:
                    image = loader.changes.apply(image, loader.seed, step, record)
                if mirrored[row]:
                    augment.mirror(image, out=images[row])
                else:
                    images[row] = image
            except BadFace as bad:
                images[row] = 0
                status[row] = bad.reason
            except Exception as error:
                error.add_note(f"while loading {loader.source.describe(record)}")
                raise
        if self._slots:
            self._slots.end(slab)
        return _Slab(None if self._slots else images, labels, records, status)

    def _planned(self, step: int) -> PlannedBatch:
        with self._lock:
            if step not in self._plans:
                self._plans[step] = self._loader.plan.batch(step)
                if len(self._plans) > _PLANS_KEPT:
                    self._plans.popitem(last=False)
            return self._plans[step]

    def __reduce__(self) -> tuple[Callable[..., _ReadSlab], tuple[Any, ...]]:
        return _ReadSlab, (self._loader, self._start_step, self._rows, self._slabs_per_step, self._slots)


class _Joined(grain.IterDataset):
    """Slabs in order -> (step, Batch)."""

    def __init__(
        self,
        slabs: grain.IterDataset,
        start_step: int,
        steps: int,
        shape: tuple[int, int, int, int],
        slots: Slots | None,
    ) -> None:
        super().__init__(slabs)
        self._about = start_step, steps, shape, slots

    def __iter__(self) -> grain.DatasetIterator:
        return _JoinedIterator(iter(self._parent), *self._about)


class _JoinedIterator(grain.DatasetIterator):
    def __init__(
        self,
        slabs: grain.DatasetIterator,
        start_step: int,
        steps: int,
        shape: tuple[int, int, int, int],
        slots: Slots | None,
    ) -> None:
        super().__init__(slabs)
        self._step = start_step
        self._stop = start_step + steps
        self._shape = shape
        self._slots = slots
        self._slab = 0

    def __next__(self) -> tuple[int, Batch]:
        if self._step == self._stop:
            raise StopIteration
        rows = self._shape[0]
        images = np.empty(self._shape, np.uint8)
        labels, records, status = np.empty(rows, np.int32), np.empty(rows, np.int64), np.empty(rows, np.uint8)
        first = 0
        while first < rows:
            # Each slab is copied as it comes, so that its slot is free again.
            slab = next(self._parent)
            part = slice(first, first + len(slab.records))
            if slab.images is not None:
                images[part] = slab.images
            else:
                assert self._slots is not None
                self._slots.read(self._slab, images[part])
            labels[part], records[part], status[part] = slab.labels, slab.records, slab.status
            self._slab += 1
            first = part.stop
        batch = Batch(images, labels, (records >= 0) & (status == 0), records, status)
        self._step += 1
        return self._step - 1, batch

    def get_state(self) -> dict[str, Any]:
        return {}  # the plan needs a step and nothing else

    def set_state(self, state: dict[str, Any]) -> None:
        raise NotImplementedError  # of PyGrain's protocol; a loader that goes on is made with the step to go on from


def embedding_batches(
    source: FaceSource,
    records: NDArray[np.int64],
    size: tuple[int, int],
    batch_size: int,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Loads the given faces once, in order and as they are, for evaluation.

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
    plan = _InOrder(np.asarray(records, np.int64), batch_size)
    loader = Loader(
        source,
        plan,
        size,
        batch_size,
        flip=False,
        workers=workers,
        process_index=process_index,
        process_count=process_count,
    )
    with loader(0, -(-len(records) // batch_size)) as batches:
        for _, batch in batches:
            yield batch


@dataclass(frozen=True)
class _InOrder:
    records: NDArray[np.int64]
    batch_size: int

    def batch(self, step: int) -> PlannedBatch:
        records = self.records[step * self.batch_size : (step + 1) * self.batch_size]
        return PlannedBatch(records, np.zeros(len(records), np.int32))
