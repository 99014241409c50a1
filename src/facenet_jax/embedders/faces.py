"""Photographs -> every face in them as a point, on all cores or devices, kept part by part so that nothing is lost."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.base import Embedder, EmbeddingTable
from facenet_jax.embedders.engine import NO_FACE, Images, words
from facenet_jax.embedders.find import Finder, Found
from facenet_jax.errors import MACHINE_ERRORS, InputError
from facenet_jax.images.crop import Crop
from facenet_jax.images.decode import BadFace, Reason
from facenet_jax.images.weights import YUNET
from facenet_jax.runtime.cores import usable_cores
from facenet_jax.runtime.files import write_arrays
from facenet_jax.runtime.progress import Progress, Tally

# Photographs in a part: few enough that little is lost, many enough that batches are full.
PART = 1024


@dataclass(frozen=True, eq=False)
class Faces:
    """Every face of a set of photographs, those of one photograph together and from left to right.

    Attributes:
      files: the photographs, as `Images.keys`; those without a face too.
      photo: int64 [n], the photograph of each face, its place in `files`.
      boxes: float32 [n, 4], (x, y, width, height) in pixels; NaN where nobody looked for faces.
      scores: float32 [n], of the detector; NaN likewise.
      central: bool [n], whether it is the largest near the centre of its photograph.
      points: float32 [n, d], of norm 1.
      rejected: (file, reason) of each photograph that gave no face.
    """

    files: tuple[str, ...]
    photo: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    central: NDArray[np.bool_]
    points: NDArray[np.float32]
    rejected: tuple[tuple[str, str], ...]

    @property
    def number(self) -> NDArray[np.int64]:
        """int64 [n], each face's number in its photograph, from 1 on the left."""
        return np.arange(len(self.photo)) - np.searchsorted(self.photo, self.photo) + 1

    def of(self, photo: int) -> range:
        """The faces of a photograph: their rows."""
        start, stop = np.searchsorted(self.photo, [photo, photo + 1]).tolist()
        return range(start, stop)

    @property
    def names(self) -> list[str]:
        """A name for each face: its file where that shows one face, and `file#1`, `file#2`, ... where it shows more."""
        several = np.bincount(self.photo, minlength=len(self.files))[self.photo] > 1
        return [
            f"{self.files[photo]}#{number}" if more else self.files[photo]
            for photo, number, more in zip(self.photo.tolist(), self.number.tolist(), several.tolist(), strict=True)
        ]


def find_faces(
    embedder: Embedder | EmbeddingTable,
    images: Images,
    crop: Crop,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> Faces:
    """Finds every face, cuts it as asked and embeds it.

    Args:
      embedder: what makes the points; it must be a network.
      images: the photographs, at least one.
      crop: see `Finder`; `finder.crop_for` knows what an embedder wants.
      keep: a folder where each part is kept once it is done: called again, only the rest is worked out, and the result
        is the same to the last bit. Whoever has put the result in safety may remove it.
      progress: where to say how far it is.

    Raises:
      InputError: as of the embedder, which may also be a file of embeddings; the detector is not installed.
    """
    if not isinstance(embedder, Embedder):
        raise InputError(f"{embedder.name} holds embeddings and no network; give a run, onnx:PATH or sface.")
    finder = Finder(crop)
    progress = progress or Progress(quiet=True)
    folder = _folder(keep, embedder, images, finder)
    count = len(images.keys)
    tally = Tally(progress, f"embedding by {embedder.name}", count)
    parts: list[_Part] = []
    pool = ThreadPoolExecutor(usable_cores())
    try:
        for start in range(0, count, PART):
            numbers = range(start, min(start + PART, count))
            file = folder / f"{start:010d}.npz" if folder else None
            part = _read_part(file, len(numbers))
            if part is None:
                before = sum(len(part.photo) for part in parts)
                part = _find_part(embedder, images, finder, numbers, pool, tally, before)
                if file is not None:
                    write_arrays(file, **vars(part))
            parts.append(part)
    finally:
        pool.shutdown(cancel_futures=True)
    if progress.live:
        progress.line("")
    return _joined(images, parts)


def _folder(keep: Path | None, embedder: Embedder, images: Images, finder: Finder) -> Path | None:
    """Where parts of just this work are kept."""
    if keep is None:
        return None
    detector = YUNET.sha256 if finder.detects else ""
    what = f"faces 1|{embedder.digest}|{images.digest}|{finder.crop}|{detector}|{PART}"
    folder = keep / hashlib.blake2b(what.encode(), digest_size=12).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True, eq=False)
class _Part:
    """`Faces` of some photographs, numbered within the part; `status` says what is wrong with each, 0 for nothing."""

    photo: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    central: NDArray[np.bool_]
    points: NDArray[np.float32]
    status: NDArray[np.uint8]


def _find_part(
    embedder: Embedder,
    images: Images,
    finder: Finder,
    numbers: range,
    pool: ThreadPoolExecutor,
    tally: Tally,
    before: int,
) -> _Part:
    status = np.zeros(len(numbers), np.uint8)

    def load(number: int) -> list[Found] | int:
        try:
            return finder(images.read(number), embedder.size) or NO_FACE
        except BadFace as bad:
            return int(bad.reason)
        except OSError as error:
            if error.errno in MACHINE_ERRORS:
                raise
            return int(Reason.UNREADABLE)

    photo: list[int] = []
    found: list[Found] = []
    points: list[NDArray[np.float32]] = []
    waiting: list[NDArray[np.uint8]] = []
    # While one batch is embedded, the threads find the faces of the next.
    for place, loaded in enumerate(_ahead(pool, load, numbers, 2 * embedder.batch)):
        if isinstance(loaded, int):
            status[place] = loaded
        else:
            photo += [place] * len(loaded)
            found += [one._replace(image=np.empty(0, np.uint8)) for one in loaded]
            waiting += [one.image for one in loaded]
        while len(waiting) >= embedder.batch:
            points.append(embedder.embed(np.stack(waiting[: embedder.batch])))
            del waiting[: embedder.batch]
        tally.update(numbers[place] + 1, f"{before + len(found):,} faces")
    if waiting:
        points.append(embedder.embed(np.stack(waiting)))
    return _Part(
        np.array(photo, np.int64),
        np.array([one.box for one in found], np.float32).reshape(-1, 4),
        np.array([one.score for one in found], np.float32),
        np.array([one.central for one in found], bool),
        np.concatenate(points) if points else np.empty((0, 1), np.float32),
        status,
    )


def _ahead(
    pool: ThreadPoolExecutor, load: Callable[[int], Any], numbers: range, window: int
) -> Iterator[list[Found] | int]:
    """What `load` gives for each number, in order, no more than a window of them at work or waiting."""
    waiting: deque[Future[Any]] = deque()
    for number in numbers:
        waiting.append(pool.submit(load, number))
        if len(waiting) > window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _read_part(file: Path | None, photos: int) -> _Part | None:
    """A part that was kept; None where there is none, or it is damaged."""
    if file is None or not file.exists():
        return None
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            part = _Part(**arrays)
    except Exception:  # a damaged archive raises what its reader happens to trip over
        return None
    whole = {len(array) for name, array in vars(part).items() if name != "status"} == {len(part.photo)}
    return part if whole and len(part.status) == photos else None


def _joined(images: Images, parts: list[_Part]) -> Faces:
    firsts = np.arange(len(parts), dtype=np.int64) * PART
    status = np.concatenate([part.status for part in parts])
    width = max(part.points.shape[1] for part in parts)
    return Faces(
        tuple(images.keys),
        np.concatenate([part.photo + first for part, first in zip(parts, firsts, strict=True)]),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.central for part in parts]),
        np.concatenate([part.points.reshape(-1, width) for part in parts]),
        tuple((images.keys[i], words(int(status[i]))) for i in np.flatnonzero(status).tolist()),
    )
