"""Many images -> points: read and cut by threads, embedded in batches, kept part by part so that nothing is lost."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.base import Embedder, EmbeddingTable
from facenet_jax.errors import MACHINE_ERRORS, InputError
from facenet_jax.images.crop import CROPS, Crop, crop_face
from facenet_jax.images.decode import BadFace, Reason, cut_and_resize, decode
from facenet_jax.images.detect import FaceDetector
from facenet_jax.images.photograph import decode_whole
from facenet_jax.runtime.files import write_arrays
from facenet_jax.runtime.progress import Progress, Tally

# Images in a part of what is kept on disk.
PART = 2048
# Beside the reasons of `decode`: a face was needed, and none was found.
NO_FACE = max(Reason) + 1

# Changes an image that was cut out, before it is brought to the embedder's size.
Alter = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Images:
    """Images to embed.

    Attributes:
      keys: a name for each, `identity/file.jpg`.
      read: number -> the bytes of the file; OSError or BadFace where it cannot be read.
      digest: a fingerprint of which images these are.
    """

    keys: Sequence[str]
    read: Callable[[int], bytes]
    digest: str


@dataclass(frozen=True)
class Embedded:
    """What was made of images.

    Attributes:
      points: float32 [images, d], of norm 1; zeros where not valid.
      valid: bool [images].
      bad: (key, reason) of each that is not valid.
      fallbacks: in how many no face was found, so that their centre was taken.
    """

    points: NDArray[np.float32]
    valid: NDArray[np.bool_]
    bad: tuple[tuple[str, str], ...] = ()
    fallbacks: int = 0


@dataclass(frozen=True)
class Cutter:
    """How images are cut and changed before they are embedded.

    Attributes:
      crop: a name of `facenet_jax.images.crop`; `none` takes the image as it is.
      alter: changes the image that was cut out.
      altered_size: the side in pixels of what `alter` is given, at most; None: the embedder's own size.
      need_face: whether an image in which no face is found counts as not valid, rather than being cut at its centre.
      name: of `alter`, for fingerprints.
    """

    crop: Crop = "none"
    alter: Alter | None = None
    altered_size: int | None = None
    need_face: bool = False
    name: str = ""
    _own: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise InputError(f"There is no crop {self.crop!r}; choose one of {', '.join(CROPS)}.")

    def __call__(self, data: bytes, size: tuple[int, int]) -> tuple[NDArray[np.uint8], bool]:
        """Bytes of a file -> (uint8 [rows, columns, 3], whether a face was found where one was looked for).

        Raises:
          BadFace: it cannot be decoded.
        """
        if self.crop == "none" and self.alter is None and not self.need_face:
            return decode(data, size), True
        return self.cut(decode_whole(data), size)

    def cut(self, image: NDArray[np.uint8], size: tuple[int, int]) -> tuple[NDArray[np.uint8], bool]:
        """The same for an image that is decoded, uint8 [rows, columns, 3] of any size."""
        side = self.altered_size or max(size)
        looks = self.crop in ("tight", "similarity") or self.need_face
        detections = self._detector().detect(image) if looks else []
        cut, info = crop_face(image, self.crop, side, detections)
        if self.alter is not None:
            cut = self.alter(cut)
        return fit(cut, size), not info.fallback and (bool(detections) or not self.need_face)

    def _detector(self) -> FaceDetector:
        # One image at a time on one thread: each thread has its own.
        if not hasattr(self._own, "detector"):
            self._own.detector = FaceDetector()
        detector: FaceDetector = self._own.detector
        return detector


class NothingUsable(InputError):
    """Not one of the images can be embedded."""


def embed_images(
    embedder: Embedder | EmbeddingTable,
    images: Images,
    cutter: Cutter | None = None,
    keep: Path | None = None,
    progress: bool = True,
) -> Embedded:
    """Embeds images, or looks them up in a file of embeddings.

    Args:
      embedder: what makes the points.
      images: what of.
      cutter: how they are cut; by default not at all.
      keep: a folder where each part is kept once it is done: called again, only the rest is worked out.
      progress: whether to say on standard error how far it is.

    Raises:
      InputError: as of the embedder; no image at all can be decoded.
    """
    cutter = cutter or Cutter()
    if not isinstance(embedder, Embedder):
        if cutter.alter is not None or cutter.need_face:
            raise InputError(f"{embedder.name} holds embeddings and no network, so that no other images can be tried.")
        points = embedder.look_up(images.keys)
        return Embedded(points, np.ones(len(points), bool))
    folder = None
    if keep is not None:
        what = f"{embedder.digest}|{images.digest}|{cutter.crop}|{cutter.name}|{cutter.altered_size}|{cutter.need_face}"
        folder = keep / hashlib.blake2b(what.encode(), digest_size=12).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
    count, parts = len(images.keys), []
    live = Progress(quiet=not progress)
    tally = Tally(live, f"embedding by {embedder.name}", count)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, count, PART):
            stop = min(start + PART, count)
            file = folder / f"{start:010d}.npz" if folder else None
            part = _read_part(file, stop - start)
            if part is None:
                part = _embed_part(embedder, images, cutter, range(start, stop), pool, tally)
                if file is not None:
                    write_arrays(file, points=part[0], status=part[1])
            parts.append(part)
    if live.live:
        live.line("")
    width = max((part[0].shape[1] for part in parts), default=1)
    points = np.concatenate([np.empty((0, width), np.float32)] + [p for p, _ in parts if p.shape[1] == width])
    status = np.concatenate([np.empty(0, np.uint8)] + [s for _, s in parts])
    valid = (status == 0) | (status == _FALLBACK)
    if not valid.any():
        first = f" (the first, {images.keys[0]}: {words(int(status[0]))})" if count else ""
        raise NothingUsable(f"None of the {count:,} images can be used{first}; give images of faces.")
    full = np.zeros((count, width), np.float32)
    full[np.concatenate([np.full(len(s), p.shape[1] == width) for p, s in parts])] = points
    bad = tuple((images.keys[i], words(int(status[i]))) for i in np.flatnonzero(~valid).tolist())
    return Embedded(full, valid, bad, int(np.sum(status == _FALLBACK)))


# Beside those: fine, but cut at the centre, as no face was found.
_FALLBACK = 255


def _embed_part(
    embedder: Embedder, images: Images, cutter: Cutter, numbers: range, pool: ThreadPoolExecutor, tally: Tally
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    status = np.zeros(len(numbers), np.uint8)

    def load(number: int) -> tuple[NDArray[np.uint8] | None, int]:
        try:
            image, found = cutter(images.read(number), embedder.size)
        except BadFace as bad:
            return None, int(bad.reason)
        except OSError as error:
            if error.errno in MACHINE_ERRORS:
                raise
            return None, int(Reason.UNREADABLE)
        if cutter.need_face and not found:
            return None, NO_FACE
        return image, 0 if found else _FALLBACK

    points: list[tuple[NDArray[np.intp], NDArray[np.float32]]] = []
    for first in range(0, len(numbers), embedder.batch):
        batch = numbers[first : first + embedder.batch]
        loaded = list(pool.map(load, batch))
        status[first : first + len(batch)] = [state for _, state in loaded]
        there = [(place, image) for place, (image, _) in enumerate(loaded) if image is not None]
        if there:
            places = first + np.array([place for place, _ in there])
            points.append((places, embedder.embed(np.stack([image for _, image in there]))))
        tally.update(batch[-1] + 1)
    full = np.zeros((len(numbers), points[0][1].shape[1] if points else 1), np.float32)
    for places, found in points:
        full[places] = found
    return full, status


def _read_part(file: Path | None, rows: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]] | None:
    """A part that was kept; None where there is none, or it is damaged."""
    if file is None or not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            points, status = arrays["points"], arrays["status"]
    except Exception:
        return None
    return (points, status) if len(points) == len(status) == rows else None


def words(status: int) -> str:
    """Why an image cannot be used, for people: a reason of `decode`, or NO_FACE."""
    return "no face found" if status == NO_FACE else Reason(status).words


def fit(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Brings an image to (rows, columns): what is too wide or too high is cut off on both sides, then it is resized."""
    if image.shape[:2] == size:
        return image
    from PIL import Image

    return cut_and_resize(Image.fromarray(image), size)
