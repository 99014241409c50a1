"""Section 5.3: faces made worse, by JPEG and by few pixels."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.errors import InputError

# The grid of Table 4, and what NN1 reached there: VAL in percent at FAR 1e-3.
JPEG_QUALITIES = {10: 67.3, 20: 81.4, 30: 83.9, 50: 85.5, 70: 86.1, 90: 86.5}
IMAGE_SIZES = {1_600: 37.8, 6_400: 79.5, 14_400: 84.5, 25_600: 85.7, 65_536: 86.4}
# The longest side of what is made worse: that of the largest in the grid.
FULL_SIDE = 256


def recompress(quality: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image as JPEG of a quality from 1 to 95 gives it back; uint8 [rows, columns, 3]."""
    if not 1 <= quality <= 95:
        raise InputError(f"A JPEG quality of {quality} is out of range; choose from 1 to 95.")
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file).convert("RGB"))


def shrink(pixels: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image as a square of so many pixels, or as it is where it has fewer; uint8 [rows, columns, 3]."""
    side = math.isqrt(pixels)
    if side < 1:
        raise InputError(f"An image of {pixels} pixels is none; choose at least one.")
    if min(image.shape[:2]) <= side:
        return image
    rows, columns = image.shape[:2]
    square = min(rows, columns)
    left, top = (columns - square) / 2, (rows - square) / 2
    box = (left, top, left + square, top + square)
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS, box=box)
    return np.array(resized)
