"""Drawn faces: an endless supply of people, each in a million pictures, as a pure function of four integers.

An identity is a point in a latent space of shapes (head, eyes, brows, nose, mouth, ears, hair, beard, marks) and
colours; an exemplar is a pose, a light, an expression, a camera and a background. The two meet only in the picture.
Light, white balance, saturation and background change so much between exemplars that colour says little about who it is
(benchmarks/drawn_faces.py measures how little); what stays is geometry.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facenet_jax.datasets.drawn.portrait import GRID, draw
from facenet_jax.errors import InputError
from facenet_jax.runtime import hashing

_IDENTITY, _EXEMPLAR, _BACKGROUND = range(1, 4)  # what a random number is for: no two purposes share one

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
    grids = hashing.uniform(seed, _BACKGROUND, who, which, np.arange(3 * GRID * GRID)).astype(np.float32)
    faces = np.empty((len(who), rows, cols, 3), np.uint8)
    for face, person, picture, grid in zip(faces, people, pictures, grids, strict=True):
        draw(face, person, picture, grid.reshape(3, GRID, GRID))
    return faces


def _within(ranges: dict[str, tuple[float, float]], numbers: NDArray[np.float64]) -> list[SimpleNamespace]:
    low, high = np.array(list(ranges.values())).T
    return [SimpleNamespace(**dict(zip(ranges, row, strict=True))) for row in (low + numbers * (high - low)).tolist()]
