"""One photograph's bytes -> what is kept of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.images.cut import FaceCutter
from facenet_jax.images.digests import content_digest, look_digest

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


FacePreparer = Callable[[bytes], PreparedFace]


def prepare_face(cutter: FaceCutter, size: int, data: bytes) -> PreparedFace:
    """Cuts a face out and encodes it as JPEG of quality 95.

    With the crop `none`, JPEG and PNG files stay as they are, byte for byte, and others become PNG.

    Args:
      cutter: cuts one face of each image.
      size: of the face that is cut out, in pixels.
      data: the bytes of the image's file.

    Raises:
      BadFace: it cannot be decoded.
    """
    whole = cutter.crop == "none"
    (face,) = cutter(data, None if whole else (size, size))
    image = data
    if not (whole and data.startswith(_KEPT)):
        stream = io.BytesIO()
        picture = Image.fromarray(face.pixels)
        picture.save(stream, "png") if whole else picture.save(stream, "jpeg", quality=JPEG_QUALITY)
        image = stream.getvalue()
    return PreparedFace(image, content_digest(data), look_digest(face.pixels), face.faces, face.fallback)
