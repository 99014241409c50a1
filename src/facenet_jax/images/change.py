"""Random changes to a face, each a pure function of (seed, step, record)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.runtime import hashing

# What a number is drawn for.
_FLIP, _PLACE, _LIGHT, _ERASE = 0xF11F, 0xC409, 0x119E7, 0xE4A5E

# What red, green and blue are worth in grey: ITU-R BT.601, as JPEG has it.
_LUMA = np.array([0.299, 0.587, 0.114])


def flips(seed: int, step: int, records: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which faces of a batch to mirror left to right: each with probability 1/2, drawn again at every step.

    Args:
      seed: the run's seed.
      step: the global step.
      records: int64 [rows].

    Returns:
      bool [rows].
    """
    return hashing.uniform(seed, _FLIP, step, records) < 0.5


def mirror(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Writes the mirror image of uint8 [rows, columns, channels] into `out`."""
    for channel in range(image.shape[-1]):  # a third of the time of all at once, whose inner loop is three bytes long
        out[..., channel] = image[:, ::-1, channel]


@dataclass(frozen=True)
class Changes:
    """What is done to each face, in this order, each by a strength from 0 (not at all) to below 1.

    Attributes:
      zoom: the sides of what is seen are shorter or longer by up to this share, and its middle lies up to half of it
        away, down and across. So the face as it is, by which is judged, lies in the middle of what is trained on.
      rotate: turned either way by up to this share of a right angle.
      brightness: all values times a factor up to this far from 1.
      contrast: their distance from the face's mean grey times such a factor.
      saturation: their distance from their own grey times such a factor.
      erase: a rectangle of up to this share of its area is filled with one random colour.
    """

    zoom: float = 0.0
    rotate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erase: float = 0.0

    def __bool__(self) -> bool:
        return any(vars(self).values())  # asked for every face: astuple would copy deeply

    def apply(self, image: NDArray[np.uint8], seed: int, step: int, record: int) -> NDArray[np.uint8]:
        """The changed face.

        Args:
          image: uint8 [rows, columns, 3]; it stays as it is.
          seed: the run's seed.
          step: the global step.
          record: which face.

        Returns:
          uint8 of the same shape.
        """

        def drawn(purpose: int, numbers: int) -> list[float]:
            return hashing.uniform(seed, purpose, step, record, np.arange(numbers)).tolist()

        if self.zoom or self.rotate:
            size, down, across, turn = (2 * u - 1 for u in drawn(_PLACE, 4))
            shift = (self.zoom / 2 * down, self.zoom / 2 * across)
            image = _placed(image, 1 + self.zoom * size, self.rotate * turn * math.pi / 2, shift)
        if self.brightness or self.contrast or self.saturation:
            strengths = (self.brightness, self.contrast, self.saturation)
            factors = [1 + strength * (2 * u - 1) for strength, u in zip(strengths, drawn(_LIGHT, 3), strict=True)]
            image = _lit(image, *factors)
        if self.erase:
            image = _erased(image, self.erase, drawn(_ERASE, 7))
        return image


def _placed(image: NDArray[np.uint8], size: float, angle: float, shift: tuple[float, float]) -> NDArray[np.uint8]:
    """What a frame shows: `size` times the image's, turned by `angle`, its middle moved by shares of the sides."""
    rows, columns = image.shape[:2]
    cos, sin = size * math.cos(angle), size * math.sin(angle)
    middle_down, middle_across = rows * (0.5 + shift[0]), columns * (0.5 + shift[1])
    reach_down, reach_across = (abs(cos) * rows + abs(sin) * columns) / 2, (abs(cos) * columns + abs(sin) * rows) / 2
    beyond_down = reach_down + abs(shift[0]) * rows - rows / 2
    beyond_across = reach_across + abs(shift[1]) * columns - columns / 2
    edge = max(0, math.ceil(max(beyond_down, beyond_across))) + 1  # one more: its neighbour is looked at as well
    # Pillow wants places of the image from places of the result, across and then down, and knows none beyond it.
    places = (
        *(cos, -sin, edge + middle_across - (cos * columns - sin * rows) / 2),
        *(sin, cos, edge + middle_down - (sin * columns + cos * rows) / 2),
    )
    picture = Image.fromarray(np.pad(image, ((edge, edge), (edge, edge), (0, 0)), mode="edge"))
    return np.asarray(picture.transform((columns, rows), Image.Transform.AFFINE, places, Image.Resampling.BILINEAR))


def _lit(image: NDArray[np.uint8], brightness: float, contrast: float, saturation: float) -> NDArray[np.uint8]:
    # Saturation, contrast and brightness are one sum of the colour, its grey and the face's mean grey: a matrix from
    # colours to colours. Pillow applies it value by value, not by the products of matrices that processors work out
    # each in its own way, and in a fifth of NumPy's time.
    rows = image.shape[0]
    sums = image.reshape(rows, -1).sum(0, dtype=np.int64).reshape(-1, 3).sum(0)
    mean = float(sums @ _LUMA) / (image.size // 3)
    grey = brightness * contrast * (1 - saturation) * _LUMA
    matrix = np.empty((3, 4))
    matrix[:, :3] = grey + brightness * contrast * saturation * np.eye(3)
    matrix[:, 3] = brightness * (1 - contrast) * mean
    return np.asarray(Image.fromarray(image).convert("RGB", tuple(matrix.ravel().tolist())))


def _erased(image: NDArray[np.uint8], strength: float, drawn: list[float]) -> NDArray[np.uint8]:
    size, aspect, down, across, *colour = drawn
    rows, columns = image.shape[:2]
    # Sides as shares of the face's; their ratio lies between 1/2 and 2, evenly on a logarithmic scale.
    area, ratio = strength * size, 4 ** (aspect - 0.5)
    height = round(rows * min(1.0, (area * ratio) ** 0.5))
    width = round(columns * min(1.0, (area / ratio) ** 0.5))
    top, left = int((rows - height + 1) * down), int((columns - width + 1) * across)
    image = image.copy()
    image[top : top + height, left : left + width] = [int(256 * u) for u in colour]
    return image
