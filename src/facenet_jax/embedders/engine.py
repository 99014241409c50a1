"""Embeds images: threads read and cut faces, batches are embedded, and finished parts are saved for resuming."""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.base import Embedder, EmbeddingTable
from facenet_jax.errors import InputError
from facenet_jax.images.crop import CutFace
from facenet_jax.images.cut import FaceCutter
from facenet_jax.images.decode import BadFace, reason_of
from facenet_jax.runtime.cores import usable_cores
from facenet_jax.runtime.files import new_folder, read_arrays, write_arrays
from facenet_jax.runtime.progress import Progress, Tally

# Images in a part of what is kept on disk: few enough that little is lost, many enough that batches are full.
PART = 2048
NO_FACE = "no face found"


@dataclass(frozen=True)
class Images:
    """Images to embed.

    Attributes:
      keys: a name for each, `identity/file.jpg`.
      read: number -> the bytes of the file, or its pixels, uint8 [rows, columns, 3]; OSError or BadFace where it cannot
        be read.
      digest: a fingerprint of which images these are.
    """

    keys: Sequence[str]
    read: Callable[[int], Any]
    digest: str


@dataclass(frozen=True, eq=False)
class EmbeddedFaces:
    """The faces of a set of images as points, those of one image together and from left to right.

    Attributes:
      files: the images, as `Images.keys`; those without a face too.
      photo: int64 [n], the image of each face, its place in `files`.
      boxes: float32 [n, 4], (x, y, width, height) in pixels of the upright image; NaN where faces were not looked for,
        or none was found and the centre was taken.
      scores: float32 [n], of the detector, in (0, 1]; NaN likewise.
      central: bool [n], whether it is the largest near the centre of its image.
      fallback: bool [n], whether no face was found, so that the centre of the image was taken.
      points: float32 [n, d], of norm 1.
      rejected: (file, reason) of each image that gave no face.
    """

    files: tuple[str, ...]
    photo: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    central: NDArray[np.bool_]
    fallback: NDArray[np.bool_]
    points: NDArray[np.float32]
    rejected: tuple[tuple[str, str], ...]

    @property
    def number(self) -> NDArray[np.int64]:
        """int64 [n], each face's number in its image, from 1 on the left."""
        return np.arange(len(self.photo)) - np.searchsorted(self.photo, self.photo) + 1

    @property
    def usable(self) -> NDArray[np.bool_]:
        """bool [files], which images gave a face."""
        return np.bincount(self.photo, minlength=len(self.files)) > 0

    def of(self, photo: int) -> range:
        """The faces of an image: their rows."""
        start, stop = np.searchsorted(self.photo, [photo, photo + 1]).tolist()
        return range(start, stop)

    def points_of(self, photos: NDArray[np.integer]) -> NDArray[np.float32]:
        """The point of each of these images, which gave one face each: float32 [..., d] for an array of any shape."""
        rows = np.searchsorted(self.photo, photos)
        if not np.array_equal(self.photo.take(rows, mode="clip"), photos):
            raise ValueError("an image gave no face")
        return self.points[rows]

    @property
    def names(self) -> list[str]:
        """A name for each face: its file where that shows one face, and `file#1`, `file#2`, ... where it shows more."""
        several = np.bincount(self.photo, minlength=len(self.files))[self.photo] > 1
        return [
            f"{self.files[photo]}#{number}" if more else self.files[photo]
            for photo, number, more in zip(self.photo.tolist(), self.number.tolist(), several.tolist(), strict=True)
        ]

    def check_any(self) -> None:
        """Raises InputError where not one of the images gave a face."""
        if not len(self.photo):
            first = " (the first, {}: {})".format(*self.rejected[0]) if self.rejected else ""
            raise InputError(f"None of the {len(self.files):,} images can be used{first}; give images of faces.")


def check_network(embedder: Embedder | EmbeddingTable) -> None:
    """Raises InputError for a file of embeddings, where images are changed or searched for faces."""
    if not isinstance(embedder, Embedder):
        raise InputError(
            f"{embedder.name} holds embeddings and no network, so that no other images can be tried; give a run, "
            "onnx:PATH or sface."
        )


def embed_images(
    embedder: Embedder | EmbeddingTable,
    images: Images,
    cutter: FaceCutter,
    keep: Path | None = None,
    progress: Progress | None = None,
    on_reject: Callable[[int, str], None] | None = None,
) -> EmbeddedFaces:
    """Cuts the faces out of images and embeds them, or looks images up in a file of embeddings.

    Args:
      embedder: what makes the points.
      images: what of.
      cutter: which faces of each image: one, which `points_of` then gives, or every.
      keep: a folder where each part is kept once it is done: called again, only the rest is worked out, and the result
        is the same to the last bit. Once the result is safe it may be removed.
      progress: where to report progress.
      on_reject: is given the number of each image that gives no face, and why; what it raises ends the work.

    Raises:
      InputError: as for the embedder, which may be a file of embeddings only where each image is one face as it is; the
        detector is not installed.
    """
    if not isinstance(embedder, Embedder):
        if cutter.every or cutter.need_face or cutter.alteration:
            check_network(embedder)
        return _looked_up(embedder, images)
    # It opens the detector: what is missing is named before any work.
    what = f"faces 2|{embedder.digest}|{embedder.size}|{embedder.batch}|{images.digest}|{cutter.digest}|{PART}"
    folder = keep / hashlib.blake2b(what.encode(), digest_size=12).hexdigest() if keep is not None else None
    progress = progress or Progress(quiet=True)
    count = len(images.keys)
    tally = Tally(progress, f"embedding by {embedder.name}", count)
    found = 0
    parts: list[EmbeddedFaces] = []

    def load(number: int) -> list[CutFace] | str:
        """The faces of an image, or why it has none."""
        try:
            return cutter(images.read(number), embedder.size) or NO_FACE
        except BadFace as bad:
            return bad.reason.words
        except OSError as error:
            return reason_of(error).words

    def cut(numbers: range) -> Iterator[list[CutFace] | str]:
        nonlocal found
        # While one batch is embedded, the threads cut the faces of the next.
        for number, faces in zip(numbers, _ahead(pool, load, numbers, 2 * embedder.batch), strict=True):
            if not isinstance(faces, str):
                found += len(faces)
            elif on_reject is not None:
                on_reject(number, faces)
            yield faces
            tally.update(number + 1, f"{found:,} faces" if cutter.every else "")

    with ExitStack() as stack:
        if folder is not None:
            stack.enter_context(new_folder(folder))
        pool = ThreadPoolExecutor(usable_cores())
        stack.callback(pool.shutdown, cancel_futures=True)
        for start in range(0, max(count, 1), PART):
            numbers = range(start, min(start + PART, count))
            files = tuple(images.keys[start : numbers.stop])
            file = folder / f"{start:010d}.npz" if folder else None
            part = _read_part(file, files)
            if part is None:
                part = _embed_part(embedder, files, cut(numbers))
                if file is not None:
                    _write_part(file, part)
            else:
                found += len(part.photo)
            parts.append(part)
        if folder is not None and not found:  # a refusal follows, which leaves nothing
            shutil.rmtree(folder, ignore_errors=True)
    if progress.live:
        progress.line("")
    return concatenate(parts)


def concatenate(parts: Sequence[EmbeddedFaces]) -> EmbeddedFaces:
    """The faces of several sets of images, at least one, as those of one."""
    firsts = np.cumsum([0, *(len(part.files) for part in parts)]).tolist()
    width = max(part.points.shape[1] for part in parts)  # a part without a face does not know it
    return EmbeddedFaces(
        files=tuple(file for part in parts for file in part.files),
        photo=np.concatenate([part.photo + first for part, first in zip(parts, firsts, strict=False)]),
        boxes=np.concatenate([part.boxes for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        central=np.concatenate([part.central for part in parts]),
        fallback=np.concatenate([part.fallback for part in parts]),
        points=np.concatenate([part.points.reshape(-1, width) for part in parts]),
        rejected=tuple(one for part in parts for one in part.rejected),
    )


def _looked_up(table: EmbeddingTable, images: Images) -> EmbeddedFaces:
    count = len(images.keys)
    return EmbeddedFaces(
        files=tuple(images.keys),
        photo=np.arange(count),
        boxes=np.full((count, 4), np.nan, np.float32),
        scores=np.full(count, np.nan, np.float32),
        central=np.ones(count, bool),
        fallback=np.zeros(count, bool),
        points=table.look_up(images.keys),
        rejected=(),
    )


def _embed_part(embedder: Embedder, files: tuple[str, ...], cut: Iterable[list[CutFace] | str]) -> EmbeddedFaces:
    """Embeds the faces of some images, given for each its faces, or why it has none."""
    photo: list[int] = []
    boxes: list[tuple[float, ...]] = []
    scores: list[float] = []
    central: list[bool] = []
    fallback: list[bool] = []
    points: list[NDArray[np.float32]] = []
    rejected: list[tuple[str, str]] = []
    waiting: list[NDArray[np.uint8]] = []
    for place, faces in enumerate(cut):
        if isinstance(faces, str):
            rejected.append((files[place], faces))
            continue
        for face in faces:
            photo.append(place)
            boxes.append(face.detection.box if face.detection else (np.nan,) * 4)
            scores.append(face.detection.score if face.detection else np.nan)
            central.append(face.central)
            fallback.append(face.fallback)
            waiting.append(face.pixels)
        while len(waiting) >= embedder.batch:
            points.append(embedder.embed(np.stack(waiting[: embedder.batch])))
            del waiting[: embedder.batch]
    if waiting:
        points.append(embedder.embed(np.stack(waiting)))
    return EmbeddedFaces(
        files=files,
        photo=np.array(photo, np.int64),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        central=np.array(central, bool),
        fallback=np.array(fallback, bool),
        points=np.concatenate(points) if points else np.empty((0, 1), np.float32),
        rejected=tuple(rejected),
    )


def _ahead(
    pool: ThreadPoolExecutor, load: Callable[[int], list[CutFace] | str], numbers: range, window: int
) -> Iterator[list[CutFace] | str]:
    """What `load` gives for each number, in order, no more than a window of them at work or waiting."""
    waiting: deque[Future[list[CutFace] | str]] = deque()
    for number in numbers:
        waiting.append(pool.submit(load, number))
        if len(waiting) > window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


# The arrays of `EmbeddedFaces`, one row a face; a part on disk holds these, and its rejected images.
_ARRAYS = ("photo", "boxes", "scores", "central", "fallback", "points")


def _write_part(file: Path, part: EmbeddedFaces) -> None:
    reasons = np.array([reason for _, reason in part.rejected], np.str_)
    write_arrays(file, **{name: getattr(part, name) for name in _ARRAYS}, reasons=reasons)


def _read_part(file: Path | None, files: tuple[str, ...]) -> EmbeddedFaces | None:
    """A part that was kept; None where there is none, or it is damaged."""
    if file is None or not file.exists():
        return None
    try:
        arrays = read_arrays(file)
        rows = {name: arrays[name] for name in _ARRAYS}
        reasons = arrays["reasons"].tolist()
    except (OSError, ValueError, KeyError):
        return None
    faces = len(rows["photo"])
    without = sorted({*range(len(files))} - {*rows["photo"].tolist()})
    if any(len(array) != faces for array in rows.values()) or len(without) != len(reasons):
        return None
    rejected = tuple((files[place], reason) for place, reason in zip(without, reasons, strict=True))
    return EmbeddedFaces(files, **rows, rejected=rejected)
