"""A whole photograph's pixels, where `decode` gives a net's input."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.images.decode import MAX_PIXELS, MAX_SIDE, BadFace, Reason, decode, to_rgb, upright

_ORIENTATION = 0x0112  # of EXIF; from 5 to 8 the image lies on its side


def decode_whole(data: bytes, *, max_side: int = MAX_SIDE, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decodes one image at its own size, upright, as `decode.decode` does otherwise.

    Args:
      data: the bytes of a JPEG, PNG, PPM/PGM or WebP image.
      max_side: the largest width or height that is decoded.
      max_pixels: the largest width x height that is decoded.

    Returns:
      uint8 [rows, columns, 3], contiguous and writable.

    Raises:
      BadFace: with the reason.
    """
    width, height = _upright_size(data)
    if max(width, height) > max_side or width * height > max_pixels:
        raise BadFace(Reason.TOO_LARGE)
    return decode(data, (height, width), max_side=max_side, max_pixels=max_pixels)


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a Pillow image as `decode_whole` gives those of a file: uint8 [rows, columns, 3], upright."""
    return np.array(to_rgb(upright(image.copy())))


def _upright_size(data: bytes) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are judged here, and of broken metadata
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "PPM", "WEBP")) as image:
                width, height = image.size
                try:
                    on_its_side = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
                except Exception:  # broken metadata: `decode` leaves such an image as it is
                    on_its_side = False
    except Image.DecompressionBombError as error:
        raise BadFace(Reason.TOO_LARGE) from error
    except MemoryError:
        raise
    except Exception:  # no header that Pillow can read, and so no orientation
        return _size_without_pillow(data)
    return (height, width) if on_its_side else (width, height)


def _size_without_pillow(data: bytes) -> tuple[int, int]:
    # libjpeg puts up with segments before the image that Pillow trips over, and so does `decode`, which then cannot
    # read an orientation either and leaves the image as it lies.
    if data.startswith(b"\xff\xd8"):
        with contextlib.suppress(ValueError):
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            return width, height
    decode(data, (1, 1))  # for its reason
    raise BadFace(Reason.UNREADABLE)
