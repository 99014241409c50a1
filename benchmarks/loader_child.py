"""Times our loader, and our decoder alone, asked for one turn at a time: see benchmarks/loader.py."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lines import serve
from facenet_jax.datasets.folder import FolderSource
from facenet_jax.datasets.source import FaceSource
from facenet_jax.input.kept_faces import KeptFaces
from facenet_jax.input.loader import Loader
from facenet_jax.input.plan import BatchPlan


def loader(
    folder: str,
    size: int,
    identities: int,
    faces: int,
    workers: int,
    warm: int,
    batches: int,
    lent: bool = True,
    keep: bool = False,
) -> dict[str, Any]:
    """Images a second from our loader, and the processor time of one in this process and in this thread.

    Args:
      folder: <identity>/<image>.
      size: rows and columns of an image.
      identities: of a batch.
      faces: of each of them.
      workers: processes that decode.
      warm: batches before the clock starts.
      batches: how many are timed.
      lent: whether batches are read where the workers wrote them; otherwise each is copied.
      keep: whether faces are decoded once and kept, as with data.cache=host; the clock starts after all are decoded.
    """
    source: FaceSource = FolderSource(folder)
    if keep:
        source = KeptFaces(source, (size, size))
        for record in range(source.index.records):
            source.load(record, (size, size))
    plan = BatchPlan(source.index, size=identities * faces, faces_per_identity=faces, random_negatives=0)
    load = Loader(source, plan, (size, size), identities * faces, workers=workers)
    # More batches are asked for than timed, so that the same number is read ahead at the end as at the beginning.
    with load(0, 2 * (warm + batches), lent) as loaded:
        for _ in range(warm):
            next(loaded)
        started, busy, thread_busy = time.perf_counter(), time.process_time(), time.thread_time()
        for _ in range(batches):
            _, batch = next(loaded)
            assert batch.valid.all()
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        thread_busy = time.thread_time() - thread_busy
    images = batches * identities * faces
    return {
        "images_per_second": images / seconds,
        "main_microseconds": 1e6 * busy / images,
        "main_thread_microseconds": 1e6 * thread_busy / images,
    }


def decoder(folder: str, size: int, workers: int, images: int) -> dict[str, Any]:
    """Images a second that this many processes decode and discard."""
    source = FolderSource(folder)
    shares = np.array_split(np.resize(np.random.default_rng(0).permutation(source.index.records), images), workers)
    barrier = multiprocessing.Barrier(workers + 1)
    processes = [
        multiprocessing.Process(target=_decode, args=(source.load, share, size, barrier), daemon=True)
        for share in shares
    ]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    return {"images_per_second": images / seconds}


def _decode(load: Callable[..., Any], records: NDArray[np.int64], size: int, barrier: Any) -> None:
    barrier.wait()
    for record in records:
        load(int(record), (size, size))
    barrier.wait()


if __name__ == "__main__":
    serve({"loader": loader, "decoder": decoder})
