"""Random changes to faces: the host draws a few numbers for each face, and the step changes the pixels.

The numbers are a pure function of (seed, step, record), the same on any host; a face's pixels cross to the device as
they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from facenet_jax.runtime import hashing

# What a number is drawn for.
_MIRROR, _PLACE, _LIGHT, _ERASE = 0xF11F, 0xC409, 0x119E7, 0xE4A5E

# What red, green and blue are worth in grey: ITU-R BT.601, as JPEG has it.
_LUMA = (0.299, 0.587, 0.114)

# The numbers of a face, by columns. Of its mirror: 1 or 0.
_MIRRORED = 0
# Of its place: the frame's size times the cosine and the sine of its turn, and how far its middle moves, in pixels down
# and across.
_PLACED = slice(1, 5)
# Of its light: what a colour, its grey and the face's mean grey are multiplied by before they are summed.
_LIT = slice(5, 8)
# Of its rectangle: the first row and the one after the last, the same of its columns; red, green and blue.
_ERASED, _COLOUR = slice(8, 12), slice(12, 15)
NUMBERS = 15


@dataclass(frozen=True)
class Changes:
    """What is done to each face, in this order; all but the first by a strength from 0 (not at all) to below 1.

    Attributes:
      zoom: the sides of what is seen are shorter or longer by up to this share, and its middle lies up to half of it
        away, down and across. So the face as it is, by which is judged, lies in the middle of what is trained on.
      rotate: turned either way by up to this share of a right angle.
      brightness: all values times a factor up to this far from 1.
      contrast: their distance from the face's mean grey times such a factor.
      saturation: their distance from their own grey times such a factor.
      erase: a rectangle of up to this share of its area is filled with one random colour.
      mirror: left and right are exchanged, last of all, with probability 1/2.
    """

    zoom: float = 0.0
    rotate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erase: float = 0.0
    mirror: bool = False

    @classmethod
    def of(cls, data: Any) -> Changes:
        """Those of a config's part `data`."""
        return cls(**data.augment, mirror=data.flip)

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def draw(self, seed: int, step: int, records: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.float32]:
        """The numbers by which faces are changed, drawn for each face again at every step.

        Args:
          seed: the run's seed.
          step: the global step.
          records: int64 [n], which faces.
          size: (rows, columns) of a face in pixels.

        Returns:
          float32 [n, NUMBERS]; zeros where they belong to a change that is off.
        """

        def drawn(purpose: int, numbers: int) -> NDArray[np.float64]:
            return hashing.uniform(seed, purpose, step, records, np.arange(numbers)[:, None])

        (rows, columns), numbers = size, np.zeros((len(records), NUMBERS))
        mirrored = (hashing.uniform(seed, _MIRROR, step, records) < 0.5) & self.mirror
        numbers[:, _MIRRORED] = mirrored
        if self.zoom or self.rotate:
            sides, down, across, turn = 2 * drawn(_PLACE, 4) - 1
            sides, angle, reach = 1 + self.zoom * sides, self.rotate * turn * math.pi / 2, self.zoom / 2
            place = (sides * np.cos(angle), sides * np.sin(angle), reach * rows * down, reach * columns * across)
            numbers[:, _PLACED] = np.transpose(place)
        if self.brightness or self.contrast or self.saturation:
            strengths = np.array([self.brightness, self.contrast, self.saturation])[:, None]
            brightness, contrast, saturation = 1 + strengths * (2 * drawn(_LIGHT, 3) - 1)
            of_grey, of_mean = brightness * contrast * (1 - saturation), brightness * (1 - contrast)
            numbers[:, _LIT] = np.transpose((brightness * contrast * saturation, of_grey, of_mean))
        if self.erase:
            share, aspect, down, across, *colour = drawn(_ERASE, 7)
            # Sides as shares of the face's; their ratio lies between 1/2 and 2, evenly on a logarithmic scale.
            area, ratio = self.erase * share, 4 ** (aspect - 0.5)
            height = np.round(rows * np.minimum(1, np.sqrt(area * ratio)))
            width = np.round(columns * np.minimum(1, np.sqrt(area / ratio)))
            top, left = np.floor((rows - height + 1) * down), np.floor((columns - width + 1) * across)
            left = np.where(mirrored, columns - width - left, left)
            numbers[:, _ERASED] = np.transpose((top, top + height, left, left + width))
            numbers[:, _COLOUR] = np.floor(256 * np.transpose(colour))
        return numbers.astype(np.float32)

    def apply(self, images: jax.Array, numbers: jax.Array) -> jax.Array:
        """The changed faces, within a jitted function.

        Args:
          images: uint8 [n, rows, columns, 3].
          numbers: float32 [n, NUMBERS], as drawn.

        Returns:
          float32 of the images' shape, from 0 to 255; uint8 where they are mirrored at most.
        """
        chex.assert_shape(numbers, (images.shape[0], NUMBERS))
        mirrored = numbers[:, _MIRRORED] > 0
        if self.zoom or self.rotate:
            images = jax.vmap(_placed)(images, numbers[:, _PLACED], mirrored)
        elif self.mirror:
            images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        if self.brightness or self.contrast or self.saturation:
            images = jax.vmap(_lit)(images, numbers[:, _LIT])
        if self.erase:
            images = jax.vmap(_erased)(images, numbers[:, _ERASED], numbers[:, _COLOUR])
        return images


def _placed(image: jax.Array, place: jax.Array, mirrored: jax.Array) -> jax.Array:
    """What a frame shows, mirrored or not: one bilinear sample a pixel; beyond the image its edge is repeated."""
    rows, columns, channels = image.shape
    cos, sin, down, across = place
    # Of the frame's pixels, then of what they show: rows and columns from the middle, then from the first.
    v = (jnp.arange(rows) - (rows - 1) / 2)[:, None]
    u = (jnp.arange(columns) - (columns - 1) / 2)[None, :] * jnp.where(mirrored, -1.0, 1.0)
    y = jnp.clip((rows - 1) / 2 + down + cos * v + sin * u, 0, rows - 1)
    x = jnp.clip((columns - 1) / 2 + across + cos * u - sin * v, 0, columns - 1)
    # Without the barrier XLA may work a place out twice, to other last digits: its pixel and its weights then belong to
    # different places.
    y, x = jax.lax.optimization_barrier((y, x))
    top, left = y.astype(jnp.int32), x.astype(jnp.int32)
    below, right, first, pixels = y - top, x - left, top * columns + left, image.reshape(-1, channels)

    def add(neighbour: jax.Array, total: jax.Array) -> jax.Array:
        is_below, is_right = neighbour // 2, neighbour % 2
        weight = jnp.where(is_below, below, 1 - below) * jnp.where(is_right, right, 1 - right)
        # One beyond the last row or column has a weight of 0.
        values = pixels.at[first + is_below * columns + is_right].get(mode="clip")
        return total + weight[..., None] * values

    # A loop, so that its sum is worked out once: XLA on CPU would do it again for each use, such as the mean grey. With
    # changes of light a face of 112x112 so takes 0.2 ms in place of 0.4. Of other forms gathers of pixels packed into
    # one number took four times as long as of a pixel's three bytes, of windows of two by two pixels 1.4 times, and
    # matrix products, which cannot turn, 2.4 times.
    return jax.lax.fori_loop(0, 4, add, jnp.zeros_like(image, jnp.float32))


def _lit(image: jax.Array, light: jax.Array) -> jax.Array:
    # Saturation, contrast and brightness are one sum of the colour, its grey and the face's mean grey. Products of
    # matrices would be rounded by each kind of device in its own way.
    image = image.astype(jnp.float32)
    grey = sum(image[..., channel, None] * weight for channel, weight in enumerate(_LUMA))
    return jnp.clip(light[0] * image + light[1] * grey + light[2] * jnp.mean(grey), 0, 255)


def _erased(image: jax.Array, rectangle: jax.Array, colour: jax.Array) -> jax.Array:
    top, bottom, left, right = rectangle
    v, u = jnp.arange(image.shape[0])[:, None, None], jnp.arange(image.shape[1])[None, :, None]
    inside = (v >= top) & (v < bottom) & (u >= left) & (u < right)
    return jnp.where(inside, colour, image.astype(jnp.float32))
