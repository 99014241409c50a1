"""Cuts faces out of an image: decodes, detects, crops and resizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.errors import InputError
from facenet_jax.images.crop import CROPS, Crop, CutFace, choose_face, crop_face
from facenet_jax.images.decode import cut_and_resize, decode, decode_whole
from facenet_jax.images.detect import FaceDetector


@dataclass(frozen=True)
class Alteration:
    """A change to faces that are cut out, before they are brought to their size; section 5.3 makes them worse.

    Attributes:
      name: says which change it is, with its strength; embeddings that were kept are used again only under the same.
      change: takes and gives uint8 [rows, columns, 3].
      side: of what `change` takes, in pixels, where faces are cut.
    """

    name: str
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    side: int


@dataclass(frozen=True)
class FaceCutter:
    """Cuts the face out of an image, or every face. Any number of threads may use it, and it can be pickled.

    Attributes:
      crop: a name of `facenet_jax.images.crop`; `none` takes the image as it is.
      every: whether `tight` and `similarity` cut every face that the detector finds, from left to right, instead of the
        largest near the centre. `centre` and `none` know one face.
      need_face: whether an image in which no face is found has none, rather than that at its centre.
      alteration: changes the faces.
      detector_file: a YuNet model to use instead of the published one.
    """

    crop: Crop
    every: bool = False
    need_face: bool = False
    alteration: Alteration | None = None
    detector_file: Path | None = None

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise InputError(f"There is no crop {self.crop!r}; choose one of {', '.join(CROPS)}.")

    @property
    def detects(self) -> bool:
        """Whether faces are looked for."""
        return self.crop in ("tight", "similarity") or self.need_face

    @cached_property
    def detector(self) -> FaceDetector:
        """What looks for them; opened when it is first needed.

        Raises:
          InputError: it is not installed, or its file is not a YuNet model.
        """
        return FaceDetector(self.detector_file)

    @property
    def digest(self) -> str:
        """A fingerprint of everything that decides about the pixels, for embeddings that are kept.

        Raises:
          InputError: as `detector`, so that what is missing is named before any work.
        """
        alteration = (self.alteration.name, self.alteration.side) if self.alteration else None
        detector = self.detector.digest if self.detects else None
        return repr((self.crop, self.every, self.need_face, alteration, detector))

    def __call__(self, image: bytes | NDArray[np.uint8], size: tuple[int, int] | None = None) -> list[CutFace]:
        """Cuts the faces out of an image.

        Args:
          image: the bytes of its file, or its pixels, uint8 [rows, columns, 3] of any size.
          size: (rows, columns) of the faces; None, with the crop `none` alone: that of the image.

        Returns:
          The face, or every face from left to right; none where none is found, and one is needed or every asked for.

        Raises:
          BadFace: it cannot be decoded.
        """
        if isinstance(image, bytes):
            if size is not None and self.crop == "none" and not self.detects and self.alteration is None:
                return [CutFace(decode(image, size))]  # at a fraction of its own size, where that is enough
            image = decode_whole(image)
        side = self.alteration.side if self.alteration else max(size or image.shape[:2])
        detections = self.detector.detect(image) if self.detects else []
        if self.every and self.crop in ("tight", "similarity"):
            central = choose_face(detections, image.shape[:2])
            faces = [
                crop_face(image, self.crop, side, [one])._replace(central=one is central)
                for one in sorted(detections, key=lambda one: (one.box[0] + one.box[2] / 2, one.box[1]))
            ]
            # Of the others the centre lies outside of the image, or the landmarks fall together.
            faces = [face for face in faces if not face.fallback]
        else:
            faces = [crop_face(image, self.crop, side, detections)]
            if self.need_face and (faces[0].fallback or not detections):
                return []
        return [face._replace(pixels=self._finished(face.pixels, size)) for face in faces]

    def _finished(self, pixels: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
        if self.alteration is not None:
            pixels = self.alteration.change(pixels)
        if size is None or pixels.shape[:2] == size:
            return pixels
        # What is too wide or too high is cut off on both sides.
        return cut_and_resize(Image.fromarray(pixels), size)
