"""One photograph's bytes -> every face in it, cut as an embedder wants it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.base import Embedder
from facenet_jax.embedders.engine import fit
from facenet_jax.errors import InputError
from facenet_jax.images.crop import CROPS, Crop, choose_face, crop_face
from facenet_jax.images.decode import decode
from facenet_jax.images.detect import FaceDetector
from facenet_jax.images.photograph import decode_whole

# Where nobody looked for a face, there is no box and no score.
NO_BOX = (np.nan, np.nan, np.nan, np.nan)


class Found(NamedTuple):
    """A face.

    Attributes:
      image: uint8 [rows, columns, 3], of the embedder's size.
      box: (x, y, width, height) in pixels of the upright photograph; NaN where nobody looked for faces.
      score: how sure the detector is, in (0, 1]; NaN likewise.
      central: whether it is the largest near the centre of its photograph, as `crop.choose_face` says.
    """

    image: NDArray[np.uint8]
    box: tuple[float, float, float, float]
    score: float
    central: bool


@dataclass(frozen=True)
class Finder:
    """Finds and cuts the faces of photographs; any number of threads may use it.

    Attributes:
      crop: `tight` and `similarity` cut every face that the detector finds; `centre` and `none` take the photograph's
        middle, or all of it, as the one face.
    """

    crop: Crop
    _own: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise InputError(f"There is no crop {self.crop!r}; choose one of {', '.join(CROPS)}.")
        if self.detects:
            self._detector()  # what is missing is said before any work

    @property
    def detects(self) -> bool:
        """Whether faces are looked for."""
        return self.crop in ("tight", "similarity")

    def __call__(self, data: bytes, size: tuple[int, int]) -> list[Found]:
        """The faces of a photograph from left to right; none where none is found.

        Args:
          data: the bytes of its file.
          size: (rows, columns) of the faces.

        Raises:
          BadFace: it cannot be decoded.
        """
        if self.crop == "none":
            return [Found(decode(data, size), NO_BOX, np.nan, True)]
        photo = decode_whole(data)
        if not self.detects:
            return [Found(fit(crop_face(photo, self.crop, max(size))[0], size), NO_BOX, np.nan, True)]
        detections = self._detector().detect(photo)
        central = choose_face(detections, photo.shape[:2])
        faces = []
        for one in sorted(detections, key=lambda d: (d.box[0] + d.box[2] / 2, d.box[1])):
            face, info = crop_face(photo, self.crop, max(size), [one])
            if not info.fallback:  # its centre lies in the photograph, and its landmarks apart
                faces.append(Found(fit(face, size), one.box, one.score, one is central))
        return faces

    def _detector(self) -> FaceDetector:
        # One photograph at a time on one thread: each thread has its own.
        if not hasattr(self._own, "detector"):
            self._own.detector = FaceDetector()
        detector: FaceDetector = self._own.detector
        return detector


def crop_for(embedder: Embedder, asked: Crop | None) -> Crop:
    """How faces are to be cut for an embedder: as asked, or as it says.

    Raises:
      InputError: nobody says it.
    """
    if asked is not None:
        return asked
    if embedder.crop != "none":
        return cast(Crop, embedder.crop)
    raise InputError(
        f"How {embedder.name} wants faces to be cut is not known; say it: --crop tight (the detector's box, as "
        "`facenet-jax prepare` does), similarity (five landmarks), centre, or none (faces that are cut out already)."
    )
