"""Drawn faces: an endless supply of people, each in a million pictures, as a pure function of four integers.

An identity is a point in a latent space of shapes (head, eyes, brows, nose, mouth, ears, hair, beard, marks) and
colours; an exemplar is a pose, a light, an expression, a camera and a background. The two meet only in the picture.
Light, white balance, saturation and background change so much between exemplars that colour says little about who it is
(benchmarks/histogram_baseline.py measures how little); what stays is geometry.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facenet_jax.data import hashing
from facenet_jax.data.drawing import Canvas, Plane, blend, colour
from facenet_jax.errors import InputError

_IDENTITY, _EXEMPLAR, _BACKGROUND, _NOISE = range(1, 5)  # what a random number is for: no two purposes share one

# What makes a person, each uniform in its range. Lengths are in half heads, from the middle of the head, downwards.
IDENTITY = {
    "width": (0.66, 0.86), "height": (0.93, 1.07), "temple": (0.88, 1.12), "jaw": (0.84, 1.22), "chin": (0.55, 1.35),
    "skin": (0, 1), "ruddy": (0, 1), "blush": (-0.5, 0.6),
    "ear": (0.10, 0.20), "ear_y": (-0.10, 0.22), "ear_out": (-0.03, 0.07),
    "eye_x": (0.25, 0.40), "eye_y": (-0.16, 0.06), "eye_wide": (0.13, 0.21), "eye_high": (0.055, 0.125),
    "eye_tilt": (-0.30, 0.30), "eye_low": (0.45, 1.0), "lash": (0.012, 0.040), "fold": (0, 0.06), "bag": (-0.3, 0.5),
    "iris": (0, 1), "iris_size": (0.055, 0.085),
    "brow_up": (0.14, 0.27), "brow_wide": (0.13, 0.24), "brow_thick": (0.016, 0.065), "brow_slope": (-0.40, 0.35),
    "brow_bend": (0, 3.2), "brow_in": (-0.05, 0.06), "brow_shade": (0.3, 1),
    "nose": (0.22, 0.44), "nose_wide": (0.075, 0.19), "nose_tip": (0.05, 0.12), "nose_up": (-0.05, 0.05),
    "bridge": (0.02, 0.07),
    "lip_y": (0.17, 0.29), "mouth": (0.16, 0.33), "lip_up": (0.015, 0.08), "lip_low": (0.025, 0.10),
    "lip_bend": (-0.04, 0.06), "bow": (0, 0.7), "lip_red": (0, 1), "dimple": (-0.05, 0.08), "fold_nose": (-0.4, 0.5),
    "hair": (0, 1), "grey": (-2.5, 1), "hairline": (0.30, 0.80), "hair_u": (-0.45, 0.45), "hair_bend": (-0.3, 1.1),
    "hair_edge": (0, 0.09), "hair_curl": (7, 26), "hair_more": (0.03, 0.22), "hair_side": (0.0, 0.11),
    "hair_long": (-1.2, 1.4), "hair_strand": (0, 0.16), "strand_turn": (-1, 1), "bald": (0, 1),
    "beard": (-3.5, 1), "beard_up": (-0.05, 0.28), "moustache": (-3.0, 1),
    "freckles": (-3.5, 1), "mole_n": (-2, 3), "mole_x": (-0.5, 0.5), "mole_y": (0.1, 0.75), "mole_dx": (-0.5, 0.5),
    "mole_dy": (-0.55, 0.3), "scar": (-5, 1), "scar_x": (-0.45, 0.45), "scar_slope": (-2, 2),
}  # fmt: skip

# What makes a picture of a person.
EXEMPLAR = {
    "yaw": (-0.34, 0.34), "pitch": (-0.20, 0.20), "roll": (-0.16, 0.16), "zoom": (0.92, 1.10), "right": (-0.08, 0.08),
    "down": (-0.07, 0.07), "light": (0, 2 * math.pi), "light_deep": (0.05, 0.45), "light_slope": (0.0, 0.35),
    "exposure": (0.82, 1.16), "warm": (-0.18, 0.18), "tint": (-0.06, 0.06), "contrast": (0.75, 1.15),
    "lift": (-0.03, 0.08),
    "saturation": (0.35, 1.3), "tone": (-0.20, 0.50), "smile": (-0.04, 0.15), "open": (-0.12, 0.12),
    "brow": (-0.04, 0.06), "squint": (0.65, 1.1), "gaze_x": (-1, 1), "gaze_y": (-0.7, 0.7),
    "blur": (-0.10, 0.20), "noise": (0.0, 0.03), "noise_at": (0, 1),
    "cloth_r": (0.1, 0.9), "cloth_g": (0.1, 0.9), "cloth_b": (0.1, 0.9),
    "back_r": (0.1, 0.9), "back_g": (0.1, 0.9), "back_b": (0.1, 0.9), "back_deep": (0, 0.7), "back_hard": (0, 1),
    "glasses": (0, 1), "glass_size": (0.19, 0.26), "glass_dark": (0, 1), "bar": (0, 1), "bar_turn": (-0.6, 0.6),
    "bar_y": (0.35, 1.0), "cap": (0, 1), "cap_y": (-0.62, -0.42),
}  # fmt: skip
_GRID = 4  # the background is a grid of this many random colours each way, smooth or in patches

_SKIN = ((0.97, 0.82, 0.72), (0.90, 0.68, 0.54), (0.73, 0.51, 0.38), (0.52, 0.34, 0.25), (0.35, 0.23, 0.18))
_HAIR = ((0.07, 0.06, 0.07), (0.20, 0.12, 0.08), (0.38, 0.21, 0.11), (0.56, 0.23, 0.09), (0.86, 0.70, 0.40))
_IRIS = ((0.16, 0.09, 0.05), (0.38, 0.22, 0.10), (0.38, 0.42, 0.18), (0.22, 0.42, 0.62), (0.52, 0.60, 0.66))
_DARK = colour(0.10, 0.06, 0.06)
_BALD = 0.08  # the share of people without hair
_ALL = (slice(None), slice(None))


def render(seed: int, identity: int, exemplar: int, size: tuple[int, int] = (64, 64)) -> NDArray[np.uint8]:
    """Draws one face.

    Args:
      seed: which world of people.
      identity: which person in it, from 0.
      exemplar: which picture of the person, from 0.
      size: (rows, cols). The face is scaled to the rows; a narrow picture cuts its sides, a wide one shows more
        background.

    Returns:
      uint8 [rows, cols, 3], RGB.

    Raises:
      InputError: for a negative identity or exemplar, or a picture of fewer than 16 pixels a side.
    """
    return render_batch(seed, [identity], [exemplar], size)[0]


def render_batch(
    seed: int, identities: ArrayLike, exemplars: ArrayLike, size: tuple[int, int] = (64, 64)
) -> NDArray[np.uint8]:
    """Draws n faces, each the same bits as render draws: uint8 [n, rows, cols, 3] for n identities and n exemplars."""
    who, which = np.atleast_1d(np.asarray(identities)), np.atleast_1d(np.asarray(exemplars))
    for name, numbers in (("identities", who), ("exemplars", which)):
        if numbers.ndim != 1 or (numbers.size and (numbers.dtype.kind not in "iu" or numbers.min() < 0)):
            raise InputError(f"drawn faces: {name} must be a list of integers from 0 upwards, not {numbers!r}")
    if who.shape != which.shape:
        raise InputError(f"drawn faces: give as many identities as exemplars, not {who.size} and {which.size}")
    rows, cols = size
    if min(rows, cols) < 16:
        raise InputError(f"drawn faces: size must be at least 16 pixels a side, not {rows} by {cols}")
    # Only exact arithmetic is done on all faces at once; so a face does not depend on the batch it is drawn in.
    who, which = who[:, None], which[:, None]
    people = _within(IDENTITY, hashing.uniform(seed, _IDENTITY, who, np.arange(len(IDENTITY))))
    pictures = _within(EXEMPLAR, hashing.uniform(seed, _EXEMPLAR, who, which, np.arange(len(EXEMPLAR))))
    grids = hashing.uniform(seed, _BACKGROUND, who, which, np.arange(3 * _GRID * _GRID)).astype(np.float32)
    faces = np.empty((len(who), rows, cols, 3), np.uint8)
    for face, person, picture, grid in zip(faces, people, pictures, grids, strict=True):
        s = _Scene(rows, cols, person, picture)
        _background(s, grid.reshape(3, _GRID, _GRID))
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
    return faces


def contact_sheet(seed: int, identities: int, exemplars: int, size: tuple[int, int] = (64, 64)) -> NDArray[np.uint8]:
    """One identity a row, one exemplar a column, with thin white gutters: uint8 [height, width, 3]."""
    gutter = 2
    who, which = np.divmod(np.arange(identities * exemplars), exemplars)
    faces = render_batch(seed, who, which, size).reshape(identities, exemplars, *size, 3)
    faces = np.pad(faces, ((0, 0), (0, 0), (gutter, 0), (gutter, 0), (0, 0)), constant_values=255)
    sheet = faces.swapaxes(1, 2).reshape(identities * (size[0] + gutter), exemplars * (size[1] + gutter), 3)
    return np.pad(sheet, ((0, gutter), (0, gutter), (0, 0)), constant_values=255)


def _within(ranges: dict[str, tuple[float, float]], numbers: NDArray[np.float64]) -> list[SimpleNamespace]:
    low, high = np.array(list(ranges.values())).T
    return [SimpleNamespace(**dict(zip(ranges, row, strict=True))) for row in (low + numbers * (high - low)).tolist()]


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
    away = np.abs(np.linspace(0, _GRID - 1, n)[:, None] - np.arange(_GRID))
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
