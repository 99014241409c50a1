"""Draws one picture of one person, part by part, from the background to the camera."""

from __future__ import annotations

import math
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.drawn.canvas import Canvas, Plane, blend, colour
from facenet_jax.runtime import hashing

_NOISE = 4  # what a random number is for: another than those of people.py

GRID = 4  # the background is a grid of this many random colours each way, smooth or in patches

_SKIN = ((0.97, 0.82, 0.72), (0.90, 0.68, 0.54), (0.73, 0.51, 0.38), (0.52, 0.34, 0.25), (0.35, 0.23, 0.18))
_HAIR = ((0.07, 0.06, 0.07), (0.20, 0.12, 0.08), (0.38, 0.21, 0.11), (0.56, 0.23, 0.09), (0.86, 0.70, 0.40))
_IRIS = ((0.16, 0.09, 0.05), (0.38, 0.22, 0.10), (0.38, 0.42, 0.18), (0.22, 0.42, 0.62), (0.52, 0.60, 0.66))
_DARK = colour(0.10, 0.06, 0.06)
_BALD = 0.08  # the share of people without hair
_ALL = (slice(None), slice(None))


def draw(face: NDArray[np.uint8], person: SimpleNamespace, picture: SimpleNamespace, grid: Plane) -> None:
    """Draws a face.

    Args:
      face: uint8 [rows, columns, 3], drawn over.
      person: a value for each name in synthetic.IDENTITY.
      picture: a value for each name in synthetic.EXEMPLAR.
      grid: float32 [3, GRID, GRID] in [0, 1], the colours of the background.
    """
    rows, cols = face.shape[:2]
    s = _Scene(rows, cols, person, picture)
    _background(s, grid)
    _behind(s)
    _head(s)
    _marks(s)
    _nose(s)
    _mouth(s)
    for side in (-1, 1):
        _eye(s, side)
    _hair(s)
    _worn(s)
    _camera(s, face)


class _Scene:
    """What every part is drawn from: the canvas, the person, the picture, where points appear, and shared paints."""

    def __init__(self, rows: int, cols: int, person: SimpleNamespace, picture: SimpleNamespace) -> None:
        self.p, self.e = p, e = person, picture
        self.canvas = Canvas(rows, cols, 2.42 / (rows * e.zoom), e.roll, e.right, e.down + 0.03)
        self.turn, self.nod = math.sin(e.yaw), math.sin(e.pitch)
        self.sun_u, self.sun_v = math.cos(e.light), math.sin(e.light)
        red, green, blue = blend(_SKIN, p.skin)
        self.skin = colour(red + 0.04 * p.ruddy, green - 0.05 * p.ruddy, blue - 0.02 * p.ruddy)
        self.ink = self.skin * colour(0.42, 0.34, 0.32)
        grey = max(p.grey, 0.0)
        self.hair = colour(*(a + (0.66 - a) * grey for a in blend(_HAIR, p.hair * (1 - 0.5 * p.skin))))
        strands = np.sin((self.canvas.u + p.strand_turn * self.canvas.u * self.canvas.v) * (20 + p.hair_curl))
        strands *= p.hair_strand
        strands += 1
        self.strands: Plane = strands
        # For every pixel, filled in by _head: x from -1 to 1 across the head at its height, y likewise, brightness.
        self.x = self.y = self.shade = strands

    def place(self, x: float, y: float, lift: float = 0.0) -> tuple[float, float, float]:
        """Where a point of the face appears when the head turns and nods, and how much narrower things are there."""
        p, e = self.p, self.e
        out = 0.72 * (1 - 0.45 * (x / p.width) ** 2 - 0.2 * y * y) + lift
        narrow = math.cos(e.yaw) - 0.6 * x / p.width**2 * self.turn
        return x * math.cos(e.yaw) + out * self.turn, y * math.cos(e.pitch) + out * self.nod, narrow


@lru_cache(maxsize=64)
def _spread(n: int, patches: bool) -> Plane:
    """Weights [n, grid] that stretch a grid over n pixels, linearly or in patches."""
    away = np.abs(np.linspace(0, GRID - 1, n)[:, None] - np.arange(GRID))
    return (away < 0.5 if patches else np.maximum(1 - away, 0)).astype(np.float32)


def _background(s: _Scene, grid: Plane) -> None:
    """A grid of random colours around one colour, smooth or in patches."""
    _, rows, cols = s.canvas.image.shape
    grid = (grid - 0.5) * s.e.back_deep + colour(s.e.back_r, s.e.back_g, s.e.back_b)
    patches = s.e.back_hard > 0.7
    np.matmul(_spread(rows, patches) @ grid, _spread(cols, patches).T, out=s.canvas.image)


def _behind(s: _Scene) -> None:
    """Long hair, shoulders, neck, ears."""
    c, p, e = s.canvas, s.p, s.e
    if p.hair_long > 0 and p.bald > _BALD:
        wide = p.width + p.hair_side + 0.10 + 0.04 * np.sin(c.v * (0.5 * p.hair_curl) + 1)
        d = (c.u + 0.2 * s.turn) / wide
        d *= d
        d += np.minimum(c.v + 0.1, 0) ** 2
        np.sqrt(d, out=d)
        d -= 1
        np.maximum(d, c.v - p.hair_long - p.hair_edge * np.sin(c.u * p.hair_curl), out=d)
        c.paint(_ALL, c.cover(d), s.hair * 0.7 * s.strands)
    c.ellipse(0, 1.80, 1.2, 0.62, colour(e.cloth_r, e.cloth_g, e.cloth_b))
    c.ellipse(-0.1 * s.turn, 1.0, 0.62 * p.width, 0.45, s.skin * 0.72)
    for side in (-1, 1):
        u, v = side * (p.width * 0.98 + p.ear_out) - 0.28 * s.turn, p.ear_y - 0.15 * s.nod
        c.ellipse(u, v, 0.6 * p.ear, p.ear, s.skin * 0.86)
        c.ellipse(u + side * 0.01, v, 0.33 * p.ear, 0.62 * p.ear, s.skin * 0.64)


def _head(s: _Scene) -> None:
    """Half as wide as the cubic through temple, cheek, jaw and chin says, times a circle's sqrt(1 - v²)."""
    c, p, e = s.canvas, s.p, s.e
    y = c.v * (1 / p.height)
    first = (1 - p.temple) / 0.7  # divided differences at -0.7, 0, 0.65 and 1
    second = ((p.jaw - 1) / 0.65 - first) / 1.35
    third = ((p.chin - p.jaw) / 0.35 - (p.jaw - 1) / 0.65 - second) / 1.7
    third = max(min(third, 0.45), -0.65)
    near = np.minimum(np.maximum(y, -0.7), 1.1)
    half = near - 0.65
    half *= third
    half += second
    half *= near
    half += first
    half *= near + 0.7
    half += p.temple
    half *= p.width
    np.maximum(half, 0.3 * p.width, out=half)
    x = c.u / half
    away = x * x
    away += y * y
    out = np.sqrt(np.maximum(1 - away, 0))
    np.sqrt(away, out=away)
    away -= 1  # 0 on the outline
    away *= p.width
    shade = x * s.sun_u
    shade += y * s.sun_v
    shade *= e.light_deep
    shade += 0.78
    out *= 0.26
    shade += out
    s.x, s.y, s.shade = x, y, shade
    head = c.cover(away)
    c.paint(_ALL, head, s.skin * shade)
    if p.beard > 0:
        _, v, _ = s.place(0, p.eye_y + p.nose + p.lip_y - p.beard_up)
        d = x - 0.5 * s.turn
        d *= d
        d *= -0.55
        d += 0.12 + v
        d -= c.v
        d = c.cover(d, 0.35 + 0.6 * p.beard)
        d *= head
        c.paint(_ALL, d, s.hair * 0.9 * shade * s.strands)


def _marks(s: _Scene) -> None:
    """Sockets, cheeks, freckles, moles, a scar."""
    c, p = s.canvas, s.p
    for side in (-1, 1):
        u, v, f = s.place(side * p.eye_x, p.eye_y - 0.03)
        c.glow(u, v, 1.7 * p.eye_wide * f, 0.24, s.ink, 0.36)
        if p.blush > 0:
            u, v, f = s.place(side * 0.62 * p.width, 0.32)
            c.glow(u, v, 0.26 * f, 0.2, colour(0.86, 0.32, 0.28), p.blush)
    for i in range(9 if p.freckles > 0 else 0):
        x, y = math.sin(7.1 * i + 9 * p.mole_x) * 0.42, 0.22 + 0.13 * math.sin(3.3 * i * i + 5 * p.mole_dx)
        u, v, f = s.place(x, y)
        c.ellipse(u, v, 0.025 * f, 0.025, s.skin * colour(0.62, 0.45, 0.36), 0.5 + 0.5 * p.freckles)
    for i in range(math.ceil(p.mole_n)):
        u, v, f = s.place(max(min(p.mole_x + i * p.mole_dx, 0.5), -0.5), p.mole_y + i * p.mole_dy)
        c.ellipse(u, v, 0.034 * f, 0.034, _DARK, 0.85)
    if p.scar > 0:
        u, v, _ = s.place(p.scar_x, 0.25)
        c.stroke(u, v, 0.16, p.scar_slope, 0.0, 0.025, colour(0.80, 0.42, 0.40), 0.9)


def _nose(s: _Scene) -> None:
    c, p = s.canvas, s.p
    dark = -1 if s.sun_u > 0 else 1
    u, v, _ = s.place(dark * (p.bridge + 0.03), p.eye_y + 0.45 * p.nose, 0.06)
    c.glow(u, v, 0.11, 0.62 * p.nose, s.ink, 0.35)
    u, v, f = s.place(0, p.eye_y + p.nose, 0.18)
    wide = p.nose_wide * f
    c.glow(u, v + 0.02, 1.5 * wide, 0.13, s.ink, 0.40)
    c.ellipse(u, v - p.nose_up, 0.42 * wide, 0.055, s.skin * colour(0.93, 0.83, 0.80), apart=0.72 * wide)
    c.ellipse(u, v - 0.02, 0.72 * wide, p.nose_tip, s.skin * colour(1.0, 0.92, 0.90))
    c.glow(u - 0.02 * dark, v - 0.05, 0.5 * wide, 0.06, colour(1, 0.97, 0.92), 0.35)
    c.stroke(u, v + 0.05, 1.05 * wide, 0.0, -p.nose_up * 6, 0.018, s.ink, 0.75)
    c.ellipse(u, v + 0.035 - 0.5 * p.nose_up, 0.24 * wide, 0.024, _DARK, 0.85, apart=0.55 * wide)
    if p.fold_nose > 0:
        c.stroke(u - 0.1 * s.turn, v + 0.13, 0.06, 1.8, 0.0, 0.016, s.ink, 0.3 + p.fold_nose, apart=p.nose_wide + 0.11)


def _mouth(s: _Scene) -> None:
    c, p, e = s.canvas, s.p, s.e
    u, v, f = s.place(0, p.eye_y + p.nose + p.lip_y, 0.08)
    if p.moustache > 0:
        c.stroke(u, v - 0.09, 1.05 * p.mouth * f, 0.0, 1.3, 0.055 + 0.03 * p.moustache, s.hair, 0.85)
    half = p.mouth * f * (1 + 1.2 * max(e.smile, 0.0))
    gap = max(e.open, 0.0)
    where, x, y = c.window(u, v + 0.5 * gap, half, 0.30)
    k = x * (1 / half)
    k *= k
    y += (p.lip_bend + e.smile) * (k - 0.4)
    k -= 1  # -1 in the middle, 0 in the corners
    top = (p.lip_up + gap) * k
    top += p.lip_up * p.bow * np.maximum(0.3 - np.abs(x) * (2 / half), 0)
    lips = np.maximum(top - y, y + (p.lip_low + gap) * k)
    lip = s.skin * colour(0.72, 0.50, 0.50)
    lip += 0.5 * p.lip_red * (colour(0.75, 0.16, 0.20) - lip)
    c.paint(where, c.cover(lips), lip)
    inside = np.abs(y)
    inside += (gap + 0.014) * k
    c.paint(where, c.cover(inside), colour(0.25, 0.06, 0.07))
    if gap > 0.03:
        c.paint(where, c.cover(np.maximum(gap * k - y, y + 0.25 * gap)), colour(0.95, 0.93, 0.88))
    c.glow(u, v + gap + p.lip_low + 0.06, 0.6 * half, 0.06, s.ink, 0.4)
    if p.dimple > 0:
        c.stroke(u, v - 0.3 * e.smile, 0.025, 2.0, 0.0, 0.012, s.ink, 0.7, apart=half + 0.05)


def _eye(s: _Scene, side: int) -> None:
    """White, iris and pupil between two parabolas, the lids; then lash line, fold, bag and brow."""
    c, p, e = s.canvas, s.p, s.e
    u, v, f = s.place(side * p.eye_x, p.eye_y)
    half, tilt, up = p.eye_wide * f, side * p.eye_tilt, p.eye_high * e.squint
    where, x, y = c.window(u, v, half * 1.15, 0.22)
    away = x - e.gaze_x * 0.35 * half
    away *= away
    away += (y - e.gaze_y * 0.3 * up) ** 2
    np.sqrt(away, out=away)
    k = x * (1 / half)
    k *= k
    k -= 1  # -1 in the middle, 0 in the corners
    x *= tilt
    y += x
    line = y - up * k
    y += (p.eye_low * up) * k
    inside = c.cover(np.maximum(-line, y))
    c.paint(where, inside, colour(0.95, 0.94, 0.92))
    iris = c.cover(away - p.iris_size)
    iris *= inside
    c.paint(where, iris, colour(*blend(_IRIS, p.iris)))
    away -= 0.5 * p.iris_size
    iris *= c.cover(away)
    c.paint(where, iris, _DARK * 0.3)
    c.ellipse(u + e.gaze_x * 0.35 * half - 0.02, v + e.gaze_y * 0.3 * up - 0.03, 0.02, 0.02, colour(1, 1, 1), 0.9)
    np.abs(line, out=line)
    line += p.lash * np.maximum(k, -0.6)
    np.maximum(line, k * (0.5 * half), out=line)
    c.paint(where, c.cover(line), _DARK)
    c.stroke(u, v - up - p.fold - 0.02, half, -tilt, 0.8 * up / half**2, 0.010, s.ink, 0.7)
    if p.bag > 0:
        c.stroke(u, v + up * p.eye_low + 0.05, 0.8 * half, -tilt, -0.6 * up / half**2, 0.012, s.ink, p.bag + 0.2)
    u, v, f = s.place(side * (p.eye_x + p.brow_in), p.eye_y - p.brow_up - e.brow)
    brow = 0.8 * (s.ink + (s.hair - s.ink) * p.brow_shade)
    c.stroke(u, v, p.brow_wide * f, side * p.brow_slope, p.brow_bend, p.brow_thick, brow, 0.95)


def _hair(s: _Scene) -> None:
    """What lies above the hairline inside an ellipse somewhat larger than the head."""
    c, p = s.canvas, s.p
    if p.bald < _BALD:
        return
    line = s.x - (p.hair_u + 0.75 * s.turn)
    line *= line
    line *= p.hair_bend
    np.minimum(line, p.hairline * p.height + p.eye_y - 0.16, out=line)  # the eyes stay free
    line += np.maximum(np.abs(s.x) - 0.86, 0) * 6
    line += p.hair_edge * np.sin(c.u * p.hair_curl)
    line += 0.5 * s.nod - p.hairline * p.height
    np.minimum(line, max(p.ear_y, p.hair_long), out=line)
    np.subtract(c.v, line, out=line)
    high = 0.5 * p.hair_more
    away = s.x * (1 / (1 + p.hair_side))
    away *= away
    away += ((s.y + high) * (1 / (1 + high))) ** 2
    np.sqrt(away, out=away)
    away -= 1
    away *= p.width
    c.paint(_ALL, c.cover(np.maximum(line, away, out=line)), s.hair * (s.shade + 0.12) * s.strands)


def _worn(s: _Scene) -> None:
    """What hides a part: glasses, a cap, a ribbon across the picture."""
    c, p, e = s.canvas, s.p, s.e
    cloth = colour(e.cloth_b, e.cloth_r, e.cloth_g)
    if e.glasses < 0.15:
        frame = cloth * 0.5 if e.glasses < 0.06 else _DARK
        for side in (-1, 1):
            u, v, f = s.place(side * (p.eye_x + 0.01), p.eye_y + 0.02, 0.08)
            where, x, y = c.window(u, v, e.glass_size * f * 1.2, e.glass_size * 1.2)
            ring = np.sqrt((x * (1 / f)) ** 2 + (y * 1.15) ** 2) - e.glass_size
            if e.glass_dark < 0.15:
                c.paint(where, c.cover(ring.copy(), 0.85), _DARK)
            c.paint(where, c.cover(np.abs(ring) - 0.018), frame)
        u, v, _ = s.place(0, p.eye_y, 0.1)
        c.stroke(u, v, max(p.eye_x - e.glass_size + 0.05, 0.05), 0.0, 1.0, 0.02, frame)
    if e.cap < 0.09:
        d = c.v - 0.12 * c.u * c.u - (e.cap_y + 0.4 * s.nod)
        np.maximum(d, np.sqrt((c.u * (1 / (p.width + 0.14))) ** 2 + (c.v * (1 / 1.2)) ** 2) - 1, out=d)
        c.paint(_ALL, c.cover(d), cloth * (s.shade + 0.1))
    if e.bar < 0.06:
        d = np.abs(c.v - e.bar_turn * c.u - e.bar_y)
        d -= 0.2
        c.paint(_ALL, c.cover(d), 1 - cloth)


@lru_cache(maxsize=4)
def _noise(n: int) -> Plane:
    """n numbers near a normal distribution: the sums of the four 16-bit parts of hashes (Irwin-Hall)."""
    parts = hashing.hash64(_NOISE, np.arange(n)).view(np.uint16).reshape(n, 4)
    return ((parts.sum(1) / 2**16 - 2) * math.sqrt(3)).astype(np.float32)


def _camera(s: _Scene, face: NDArray[np.uint8]) -> None:
    """Light, saturation, white balance, contrast, tone, blur, noise, eight bits."""
    c, e, image = s.canvas, s.e, s.canvas.image
    light = c.u * (e.light_slope * s.sun_u)
    light += c.v * (e.light_slope * s.sun_v)
    light += e.exposure
    image *= light
    grey = image[0] * 0.3
    grey += image[1] * 0.55
    grey += image[2] * 0.15
    image -= grey
    image *= e.saturation
    image += grey
    image *= e.contrast * colour(1 + e.warm, 1 + e.tint, 1 - e.warm)
    image += 0.45 * (1 - e.contrast) + e.lift
    np.maximum(image, 0, out=image)
    np.minimum(image, 1, out=image)
    curve = image * -e.tone
    curve += 1 + e.tone
    image *= curve  # x + tone x (1 - x)
    step = max(1, round(face.shape[0] / 90)) if e.blur > 0 else 0
    while step:
        for a in (image, image.swapaxes(1, 2)):
            sides = a[:, 2 * step :] + a[:, : -2 * step]
            sides *= e.blur
            middle = a[:, step:-step]
            middle *= 1 - 2 * e.blur
            middle += sides
        step //= 2
    table = _noise(max(1 << 16, 1 << image.size.bit_length()))
    at = int(e.noise_at * (len(table) - image.size))
    image += table[at : at + image.size].reshape(image.shape) * e.noise
    image *= 255
    image += 0.5
    np.maximum(image, 0, out=image)
    np.minimum(image, 255, out=image)
    face[:] = image.transpose(1, 2, 0)
