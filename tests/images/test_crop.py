"""The crops, on images whose pixels are their own coordinates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.errors import InputError
from facenet_jax.images.crop import (
    CENTRE_SHARE,
    TEMPLATE,
    TIGHT_SCALE,
    choose_face,
    crop_face,
    similarity_to_template,
)
from facenet_jax.images.detect import Detection


def where(rows, columns):
    """An image whose red is the column and whose green is the row, in 255ths of its size."""
    down, across = np.mgrid[0:rows, 0:columns]
    return np.stack([255 * across / columns, 255 * down / rows, 0 * down], -1).round().astype(np.uint8)


def face(x, y, width, height, turn=0.0, score=0.9):
    """A detection whose landmarks are the template's, scaled to the box and turned about its centre."""
    offsets = ((TEMPLATE - 55.5) / 112 * height) @ [1, 1j] * np.exp(1j * turn)
    centre = x + width / 2 + 1j * (y + height / 2)
    points = centre + offsets
    return Detection((x, y, width, height), np.stack([points.real, points.imag], -1), score)


def test_tight_is_the_square_around_the_box():
    image = where(300, 400)
    crop = crop_face(image, "tight", 80, [face(150, 100, 80, 100)])
    assert crop.pixels.shape == (80, 80, 3)
    assert crop.pixels.dtype == np.uint8
    assert not crop.fallback
    assert crop.faces == 1
    side = TIGHT_SCALE * 100
    centres = (np.arange(80) + 0.5) / 80 * side - side / 2
    np.testing.assert_allclose(crop.pixels[40, :, 0], 255 * (190 + centres - 0.5) / 400, atol=1.5)
    np.testing.assert_allclose(crop.pixels[:, 40, 1], 255 * (150 + centres - 0.5) / 300, atol=1.5)


def test_a_box_that_leaves_the_image_is_filled_with_black():
    image = np.full((100, 100, 3), 200, np.uint8)
    crop = crop_face(image, "tight", 60, [face(-30, 20, 80, 60)])
    assert not crop.fallback
    assert crop.pixels[:, :15].max() == 0
    assert crop.pixels[20:40, 30:].min() == 200


def test_a_turned_face_that_leaves_the_image_is_filled_with_black():
    pytest.importorskip("cv2")
    image = np.full((100, 100, 3), 200, np.uint8)
    turned = crop_face(image, "similarity", 60, [face(-30, 20, 80, 60)])
    assert not turned.fallback
    assert turned.pixels.min() == 0


@pytest.mark.parametrize("how", ["tight", "similarity", "centre"])
def test_without_a_face_the_centre_is_cut(how):
    image = where(200, 300)
    crop = crop_face(image, how, 50)
    assert crop.fallback == (how != "centre")
    assert crop.detection is None
    side = CENTRE_SHARE * 200
    across = 150 - side / 2 + (np.arange(50) + 0.5) / 50 * side
    np.testing.assert_allclose(crop.pixels[25, :, 0], 255 * (across - 0.5) / 300, atol=1.5)
    np.testing.assert_array_equal(crop.pixels, crop_face(image, "centre", 50).pixels)


def test_none_leaves_the_image_alone():
    image = where(20, 30)
    assert crop_face(image, "none", 112).pixels is image
    with pytest.raises(InputError, match="no crop 'loose'"):
        crop_face(image, "loose", 112)


@given(
    st.floats(-math.pi, math.pi),
    st.floats(0.2, 20),
    st.complex_numbers(max_magnitude=500),
    st.sampled_from([64, 112, 224]),
)
def test_the_similarity_is_undone(turn, scale, shift, size):
    points = scale * np.exp(1j * turn) * (TEMPLATE @ [1, 1j]) + shift
    matrix = similarity_to_template(np.stack([points.real, points.imag], -1), size)
    back = np.c_[points.real, points.imag, np.ones(5)] @ matrix.T
    np.testing.assert_allclose(back, (TEMPLATE + 0.5) * size / 112 - 0.5, atol=1e-6)


@given(st.lists(st.tuples(st.floats(20, 90), st.floats(20, 90)), min_size=5, max_size=5, unique=True))
def test_the_similarity_is_the_least_squares_one(points):
    landmarks = np.array(points)
    if np.ptp(landmarks, axis=0).max() < 1:
        return
    matrix = similarity_to_template(landmarks, 112)
    # The plain reference: unknowns a, b, c, d of x' = a x - b y + c, y' = b x + a y + d.
    rows = []
    for x, y in points:
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
    a, b, c, d = np.linalg.lstsq(np.array(rows), TEMPLATE.ravel(), rcond=None)[0]
    np.testing.assert_allclose(matrix, [[a, -b, c], [b, a, d]], atol=1e-6)


@pytest.mark.parametrize(("height", "tolerance"), [(60, 0.1), (110, 0.1), (150, 1), (900, 1)])
def test_similarity_equals_opencvs_alignment_except_for_smoother_shrinking(height, tolerance):
    cv2 = pytest.importorskip("cv2")
    from facenet_jax.images.weights import SFACE, read_weights

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (1200, 1200), interpolation=cv2.INTER_CUBIC)
    detection = face(200, 150, 0.8 * height, height, turn=0.3)
    sface = cv2.FaceRecognizerSF.create("onnx", np.frombuffer(read_weights(SFACE), np.uint8), np.zeros(0, np.uint8))
    row = np.r_[detection.box, detection.landmarks.ravel(), 0.9].astype(np.float32)
    theirs = sface.alignCrop(image, row).astype(int)
    ours = crop_face(image, "similarity", 112, [detection]).pixels.astype(int)
    assert np.abs(ours - theirs).mean() <= tolerance
    assert height > 112 or np.abs(ours - theirs).max() <= 2


@pytest.mark.parametrize("how", ["tight", "similarity", "centre"])
@pytest.mark.parametrize("side", [700, 1500, 3000])
def test_nothing_is_lost_between_pixels_when_shrinking(how, side):
    if how == "similarity":
        pytest.importorskip("cv2")
    # A chessboard of single pixels has a mean of 127.5 everywhere; sampling single pixels of it would give stripes.
    board = np.indices((side, side)).sum(0) % 2 * 255
    image = np.repeat(board[..., None], 3, -1).astype(np.uint8)
    detections = [] if how == "centre" else [face(0.1 * side, 0.1 * side, 0.7 * side, 0.7 * side, turn=0.1)]
    crop = crop_face(image, how, 64, detections)
    assert np.abs(crop.pixels[8:-8, 8:-8].astype(float) - 127.5).max() < 12


def test_the_largest_face_near_the_centre_is_chosen():
    large_aside, middle, small_middle = face(0, 0, 60, 60), face(130, 80, 50, 50), face(140, 90, 20, 20)
    assert choose_face([large_aside, middle, small_middle], (200, 300)) is middle
    assert choose_face([large_aside, small_middle], (200, 300)) is large_aside
    assert choose_face([], (200, 300)) is None
    outside = face(-80, 50, 100, 100)
    collapsed = Detection((100.0, 50.0, 90.0, 90.0), np.full((5, 2), 95.0), 0.9)
    assert choose_face([outside, collapsed], (200, 300)) is None
    assert crop_face(where(200, 300), "similarity", 50, [outside, collapsed]).fallback


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.floats(-30, 40), st.floats(-30, 40), st.floats(1, 90), st.floats(1, 90)),
)
def test_any_box_in_any_image_gives_a_crop(shape, box):
    pytest.importorskip("cv2")
    for how in ("tight", "similarity"):
        crop = crop_face(where(*shape), how, 24, [face(*box)])
        assert crop.pixels.shape == (24, 24, 3)
