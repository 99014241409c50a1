"""A small canvas: anti-aliased shapes painted over each other inside their own bounding boxes.

Edges are smoothed analytically, from the distance to the outline in pixels, so nothing is ever drawn larger than it is
shown. Coordinates are the face's own: right and down, one unit about half a head high, turned and shifted with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Window = tuple[slice, slice]


def colour(*rgb: float) -> Plane:
    """A colour as [3, 1, 1], ready to multiply a plane."""
    return np.array(rgb, np.float32).reshape(3, 1, 1)


def blend(stops: Sequence[Sequence[float]], at: float) -> list[float]:
    """The colour at a place in [0, 1] along a line through evenly spaced colours."""
    place = min(max(at, 0.0), 1.0) * (len(stops) - 1)
    left = min(int(place), len(stops) - 2)
    return [a + (b - a) * (place - left) for a, b in zip(stops[left], stops[left + 1], strict=True)]


class Canvas:
    """A picture [3, rows, cols] with the face's coordinates (u, v) of every pixel."""

    def __init__(self, rows: int, cols: int, pitch: float, roll: float, right: float, down: float) -> None:
        """Takes face units per pixel, the angle by which the face is turned, and where its origin lies, in units."""
        self.pitch, self.cos, self.sin = pitch, math.cos(roll), math.sin(roll)
        self.row, self.col = (rows - 1) / 2 + down / pitch, (cols - 1) / 2 + right / pitch
        x = (np.arange(cols, dtype=np.float32) - self.col) * pitch
        y = ((np.arange(rows, dtype=np.float32) - self.row) * pitch)[:, None]
        self.u: Plane = x * self.cos + y * self.sin
        self.v: Plane = y * self.cos - x * self.sin
        self.image: Plane = np.empty((3, rows, cols), np.float32)

    def window(self, u: float, v: float, half_u: float, half_v: float) -> tuple[Window, Plane, Plane]:
        """The pixels around a box, and their coordinates relative to its centre; empty where it lies outside."""
        rows, cols = self.u.shape
        col = (self.cos * u - self.sin * v) / self.pitch + self.col
        row = (self.sin * u + self.cos * v) / self.pitch + self.row
        wide = (self.cos * half_u + abs(self.sin) * half_v) / self.pitch + 1
        high = (abs(self.sin) * half_u + self.cos * half_v) / self.pitch + 1
        top, left = min(max(math.ceil(row - high), 0), rows), min(max(math.ceil(col - wide), 0), cols)
        where = (slice(top, max(top, math.floor(row + high) + 1)), slice(left, max(left, math.floor(col + wide) + 1)))
        return where, self.u[where] - u, self.v[where] - v

    def cover(self, distance: Plane, opacity: float = 1.0) -> Plane:
        """How much of each pixel lies inside, from the signed distance to the outline (overwritten)."""
        distance *= -1 / self.pitch
        distance += 0.5
        np.maximum(distance, 0, out=distance)
        np.minimum(distance, 1, out=distance)
        if opacity < 1:
            distance *= opacity
        return distance

    def paint(self, where: Window, cover: Plane, paint: Plane) -> None:
        """Lays paint ([3, 1, 1] or one colour per pixel) over the picture."""
        under = self.image[:, where[0], where[1]]
        step = paint - under
        step *= cover
        under += step

    def ellipse(
        self, u: float, v: float, ru: float, rv: float, paint: Plane, opacity: float = 1.0, apart: float = 0.0
    ) -> None:
        """An ellipse with a sharp edge, or two of them, each so far to the left and right of the middle."""
        where, x, y = self.window(u, v, ru + apart, rv)
        if apart:
            np.abs(x, out=x)
            x -= apart
        x *= 1 / ru
        y *= 1 / rv
        x *= x
        y *= y
        x += y
        np.sqrt(x, out=x)
        x -= 1
        x *= min(ru, rv)
        self.paint(where, self.cover(x, opacity), paint)

    def glow(self, u: float, v: float, ru: float, rv: float, paint: Plane, opacity: float) -> None:
        """An ellipse that fades out from its centre."""
        where, x, y = self.window(u, v, ru, rv)
        x *= 1 / ru
        y *= 1 / rv
        x *= x
        y *= y
        x += y
        np.minimum(x, 1, out=x)
        x -= 1
        x *= x
        x *= opacity
        self.paint(where, x, paint)

    def stroke(
        self, u: float, v: float, half: float, slope: float, bend: float, thick: float, paint: Plane,
        opacity: float = 1.0, apart: float = 0.0,
    ) -> None:  # fmt: skip
        """A pen stroke along v = slope x + bend x², thick in the middle and thin at its ends; or a mirrored pair."""
        where, x, y = self.window(u, v, half + apart, abs(slope) * half + abs(bend) * half * half + thick)
        if apart:
            np.abs(x, out=x)
            x -= apart
        y -= x * (slope + bend * x)
        np.abs(y, out=y)
        x *= 1 / half
        x *= x
        x -= 1  # -1 in the middle, 0 at the ends
        y *= 1 / math.sqrt(1 + slope * slope)
        y += np.maximum(x, -0.75) * (thick / 0.75)
        np.maximum(y, x * (0.5 * half), out=y)
        self.paint(where, self.cover(y, opacity), paint)
