"""Cutting the face out of a photograph: tight, by similarity, or the fixed centre (sections 4 and 5.6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.errors import InputError
from facenet_jax.images.detect import Detection

Crop = Literal["tight", "similarity", "centre", "none"]
CROPS: tuple[Crop, ...] = get_args(Crop)

# The square cut by `tight` is this many times the longer side of the detector's box, which ends at the chin.
TIGHT_SCALE = 1.1
# The square cut by `centre` is this share of the image's shorter side: in LFW, whose 250 pixels are 2.2 times the box
# of the detector that it was made with, about the same as `tight`.
CENTRE_SHARE = 0.5

# Where eyes, nose and corners of the mouth are put in 112 x 112 pixels: the template that ArcFace and SFace are fed by.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
TEMPLATE_SIDE = 112


class CutFace(NamedTuple):
    """A face that is cut out of an image.

    Attributes:
      pixels: uint8 [rows, columns, 3].
      detection: the one that was cut out; None where none was found, or none was looked for.
      faces: how many faces were found.
      fallback: whether the centre was cut because no face was found.
      central: whether it is the largest near the centre of its image, as `choose_face` says, or its only face.
    """

    pixels: NDArray[np.uint8]
    detection: Detection | None = None
    faces: int = 0
    fallback: bool = False
    central: bool = True


def crop_face(image: NDArray[np.uint8], how: Crop, size: int, detections: Sequence[Detection] = ()) -> CutFace:
    """Cuts a face out and resizes it, averaging where it shrinks. What lies outside of the image is black.

    `tight` is the paper's way: scale and translation only; the square about the detector's box. `similarity` also
    turns, so that five landmarks fall on a template. `centre` is the paper's first way with LFW: always the same middle
    of the image. Where no face was found, `tight` and `similarity` cut the centre, as the paper did for two images of
    LFW.

    Args:
      image: uint8 [rows, columns, 3].
      how: the crop.
      size: of the result, [size, size, 3], in pixels; `none` leaves the image as it is.
      detections: the faces found; `choose_face` tells which is cut out.
    """
    if how == "none":
        return CutFace(image)
    if how == "centre":
        return CutFace(_centre(image, size))
    if how not in CROPS:
        raise InputError(f"There is no crop {how!r}: choose one of {', '.join(CROPS)}.")
    face = choose_face(detections, image.shape[:2])
    if face is None:
        return CutFace(_centre(image, size), faces=len(detections), fallback=True)
    if how == "tight":
        x, y, width, height = face.box
        side = TIGHT_SCALE * max(width, height)
        pixels = _cut(image, x + (width - side) / 2, y + (height - side) / 2, side, size)
    else:
        pixels = _warp(image, similarity_to_template(face.landmarks, size), size)
    return CutFace(pixels, face, len(detections))


def choose_face(detections: Sequence[Detection], shape: tuple[int, int]) -> Detection | None:
    """The largest face near the centre: that with the greatest area x (1 - d / D).

    d is the distance of the box's centre from the image's, D that of the image's corners; faces whose centre lies
    outside of the image, or whose landmarks fall together, do not count.

    Args:
      detections: faces.
      shape: (rows, columns) of the image.
    """
    rows, columns = shape
    best, best_weight = None, 0.0
    for detection in detections:
        x, y, width, height = detection.box
        off = (x + width / 2 - columns / 2, y + height / 2 - rows / 2)
        if abs(off[0]) > columns / 2 or abs(off[1]) > rows / 2 or float(np.ptp(detection.landmarks, axis=0).max()) < 1:
            continue
        weight = width * height * (1 - math.hypot(*off) / math.hypot(rows / 2, columns / 2))
        if weight > best_weight:
            best, best_weight = detection, weight
    return best


def similarity_to_template(landmarks: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The similarity (turn, scale, shift) that brings landmarks nearest to the template, in least squares.

    Args:
      landmarks: [5, 2], (x, y) in the image.
      size: side of the result in pixels; the template is scaled to it.

    Returns:
      float64 [2, 3]: the matrix by which a homogeneous (x, y, 1) of the image becomes (x, y) of the result.
    """
    to = (TEMPLATE + 0.5) * (size / TEMPLATE_SIDE) - 0.5
    # Points as complex numbers: a similarity without reflection is z -> a z + b, and least squares has one solution.
    z, w = landmarks @ [1, 1j], to @ [1, 1j]
    centred = z - z.mean()
    a = np.vdot(centred, w - w.mean()) / np.vdot(centred, centred).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _centre(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    rows, columns = image.shape[:2]
    side = CENTRE_SHARE * min(rows, columns)
    return _cut(image, (columns - side) / 2, (rows - side) / 2, side, size)


def _cut(image: NDArray[np.uint8], left: float, top: float, side: float, size: int) -> NDArray[np.uint8]:
    # Whole pixels around the square first, black where there are none; then the square, to fractions of a pixel.
    x, y = math.floor(left), math.floor(top)
    part = Image.fromarray(image).crop((x, y, math.ceil(left + side), math.ceil(top + side)))
    box = (left - x, top - y, left - x + side, top - y + side)
    return np.array(part.resize((size, size), Image.Resampling.BICUBIC, box=box))


def _warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    import cv2

    # Two pixels are interpolated between, so that shrinking by more loses some: shrink by a whole number
    # first, then make twice as many pixels as asked for and average them.
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    shrink = max(1, math.floor(1 / scale))
    if shrink > 1:
        image = np.asarray(Image.fromarray(image).reduce(shrink))
        matrix = matrix @ [[shrink, 0, (shrink - 1) / 2], [0, shrink, (shrink - 1) / 2], [0, 0, 1]]
    if scale * shrink >= 1:
        return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR).astype(np.uint8)
    twice = 2 * matrix + [[0, 0, 0.5], [0, 0, 0.5]]
    fine = cv2.warpAffine(image, twice, (2 * size, 2 * size), flags=cv2.INTER_LINEAR)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)
