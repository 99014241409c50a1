"""One photograph's bytes -> what is kept of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.images.crop import Crop, crop_face
from facenet_jax.images.detect import FaceDetector
from facenet_jax.images.digests import content_digest, look_digest
from facenet_jax.images.photograph import decode_whole

# Above 90 the paper's Table 4 leaves nothing to gain.
JPEG_QUALITY = 95
_KEPT = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class PreparedFace(NamedTuple):
    """A face as it is stored, and what is known of it.

    Attributes:
      image: the bytes of a JPEG or PNG file.
      content: digest of the bytes that it was made from.
      look: digest of its pixels' looks.
      faces: how many faces were found.
      fallback: whether the centre was cut because none was.
    """

    image: bytes
    content: bytes
    look: NDArray[np.uint16]
    faces: int
    fallback: bool


@dataclass(frozen=True)
class Cutter:
    """Cuts and encodes faces.

    Attributes:
      crop, size: see `crop.crop_face`. With `none`, JPEG and PNG files stay as they are, byte for byte, and others
        become PNG; faces that are cut become JPEG of quality 95.
      detector: finds faces for `tight` and `similarity`.
    """

    crop: Crop
    size: int
    detector: FaceDetector | None = None

    def __call__(self, data: bytes) -> PreparedFace:
        """Prepares one face.

        Raises:
          BadFace: it cannot be decoded.
        """
        picture = decode_whole(data)
        found = self.detector.detect(picture) if self.detector else []
        face, info = crop_face(picture, self.crop, self.size, found)
        if self.crop == "none" and data.startswith(_KEPT):
            image = data
        else:
            stream = io.BytesIO()
            if self.crop == "none":
                Image.fromarray(face).save(stream, "png")
            else:
                Image.fromarray(face).save(stream, "jpeg", quality=JPEG_QUALITY)
            image = stream.getvalue()
        return PreparedFace(image, content_digest(data), look_digest(face), info.faces, info.fallback)
