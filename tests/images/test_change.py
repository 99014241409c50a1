"""Changed faces compared with a plain float64 reference that draws and samples one number after another."""

import dataclasses
import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facenet_jax.config import default_config
from facenet_jax.datasets.drawn import render
from facenet_jax.images import change
from facenet_jax.images.change import NUMBERS, Changes
from facenet_jax.runtime import hashing

SHAPE = (40, 32)
FACE = render(0, 1, 2, SHAPE)
STRENGTHS = [field.name for field in dataclasses.fields(Changes) if field.name != "mirror"]
LUMA = np.array([0.299, 0.587, 0.114])
strengths = st.fixed_dictionaries(
    {name: st.sampled_from([0.0, 0.3, 0.95]) for name in STRENGTHS} | {"mirror": st.booleans()}
)


def apply(changes, face, seed, step, records):
    """The face with the changes of each of the records."""
    records = np.atleast_1d(records)
    numbers = changes.draw(seed, step, records, face.shape[:2])
    return np.asarray(_jitted(changes)(np.repeat(face[None], len(records), axis=0), numbers))


@cache
def _jitted(changes):
    return jax.jit(changes.apply)


def reference(changes, face, seed, step, record):
    """One face, changed as Pillow does it, without rounding."""

    def drawn(purpose, numbers):
        return [float(hashing.uniform(seed, purpose, step, record, n)) for n in range(numbers)]

    face = face.astype(np.float64)
    if changes.zoom or changes.rotate:
        size, down, across, turn = (2 * u - 1 for u in drawn(0xC409, 4))
        shift = (changes.zoom / 2 * down, changes.zoom / 2 * across)
        face = placed(face, 1 + changes.zoom * size, changes.rotate * turn * math.pi / 2, shift)
    if changes.brightness or changes.contrast or changes.saturation:
        each = (changes.brightness, changes.contrast, changes.saturation)
        face = lit(face, *[1 + strength * (2 * u - 1) for strength, u in zip(each, drawn(0x119E7, 3), strict=True)])
    if changes.erase:
        size, aspect, down, across, *colour = drawn(0xE4A5E, 7)
        rows, columns = face.shape[:2]
        area, ratio = changes.erase * size, 4 ** (aspect - 0.5)
        height = round(rows * min(1.0, (area * ratio) ** 0.5))
        width = round(columns * min(1.0, (area / ratio) ** 0.5))
        top, left = int((rows - height + 1) * down), int((columns - width + 1) * across)
        face = face.copy()
        face[top : top + height, left : left + width] = [int(256 * u) for u in colour]
    if changes.mirror and float(hashing.uniform(seed, 0xF11F, step, record)) < 0.5:
        face = face[:, ::-1]
    return face


def placed(face, size, angle, shift):
    """The content of a frame of `size` times the face, turned by `angle` and shifted by shares of its sides."""
    rows, columns = face.shape[:2]
    result = np.empty_like(face)
    for row, column in np.ndindex(rows, columns):
        down, across = row - (rows - 1) / 2, column - (columns - 1) / 2
        y = (rows - 1) / 2 + shift[0] * rows + size * (math.cos(angle) * down + math.sin(angle) * across)
        x = (columns - 1) / 2 + shift[1] * columns + size * (math.cos(angle) * across - math.sin(angle) * down)
        top, left = math.floor(y), math.floor(x)
        result[row, column] = sum(
            (1 - abs(y - v)) * (1 - abs(x - u)) * face[min(max(v, 0), rows - 1), min(max(u, 0), columns - 1)]
            for v in (top, top + 1)
            for u in (left, left + 1)
        )
    return result


def lit(face, brightness, contrast, saturation):
    grey = (face @ LUMA)[..., None]
    face = grey + saturation * (face - grey)
    face = grey.mean() + contrast * (face - grey.mean())
    return np.clip(brightness * face, 0, 255)


def test_the_config_has_each_change_and_none_but_the_mirror_is_on():
    data = default_config().data
    assert dict(data.augment) | {"mirror": False} == dataclasses.asdict(Changes())
    assert Changes.of(data) == Changes(mirror=True)
    data.flip, data.augment.zoom = False, 0.25
    assert Changes.of(data) == Changes(zoom=0.25)
    assert not Changes()
    images = FACE[None]
    assert Changes().apply(images, np.zeros((1, NUMBERS), np.float32)) is images


@settings(max_examples=25)
@given(strengths, st.integers(0, 9), st.integers(0, 10**6), st.integers(0, 10**12))
def test_a_changed_face_is_that_of_the_reference_for_its_seed_step_and_record(chosen, seed, step, record):
    changes = Changes(**chosen)
    before = FACE.copy()
    one, other = (apply(changes, FACE, seed, step, record)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(FACE, before)
    assert one.shape == FACE.shape
    assert one.dtype == (np.float32 if any(chosen[name] for name in STRENGTHS) else np.uint8)
    assert bool(changes) == any(chosen.values())
    np.testing.assert_allclose(one, reference(changes, FACE, seed, step, record), atol=0.02)


@pytest.mark.parametrize("shape", [(17, 40), (40, 17), (1, 5), (5, 1), (1, 1)])
def test_faces_of_any_shape(shape):
    changes = Changes(zoom=0.5, rotate=0.5, contrast=0.3, erase=0.4, mirror=True)
    face = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = apply(changes, face, 3, 5, np.arange(6))
    for record in range(6):
        np.testing.assert_allclose(found[record], reference(changes, face, 3, 5, record), atol=0.02)


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_change_depends_on_seed_step_and_record_and_grows_with_its_strength(name):
    def distances(strength: float) -> np.ndarray:
        changed = apply(Changes(**{name: strength}), FACE, 0, 0, np.arange(60))
        return np.abs(changed - FACE.astype(float)).mean((1, 2, 3))

    assert distances(1e-6).max() < 1e-3
    assert 0 < distances(0.2).mean() < distances(0.8).mean()
    changes = Changes(**{name: 0.8})
    faces = [apply(changes, FACE, *key) for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert len({face.tobytes() for face in faces}) == 4


@given(st.integers(0, 9), st.integers(0, 10**6), st.lists(st.integers(-1, 10**12), min_size=1, max_size=9))
def test_numbers_do_not_depend_on_which_faces_are_asked_for_together(seed, step, records):
    changes = Changes(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, True)
    together = changes.draw(seed, step, np.array(records), SHAPE)
    alone = [changes.draw(seed, step, np.array([record]), SHAPE)[0] for record in records]
    np.testing.assert_array_equal(together, alone)
    assert np.isfinite(together).all()


def test_brightness_contrast_and_saturation():
    for factors in ((1.3, 1, 1), (1, 0.6, 1), (1, 1, 0.4), (0.7, 1.2, 1.4)):
        brightness, contrast, saturation = factors
        of_grey, of_mean = brightness * contrast * (1 - saturation), brightness * (1 - contrast)
        light = np.array([brightness * contrast * saturation, of_grey, of_mean], np.float32)
        assert np.abs(change._lit(FACE, light) - lit(FACE.astype(np.float64), *factors)).max() < 0.01
    changed = apply(Changes(brightness=0.5, contrast=0.5, saturation=0.5), FACE, 0, 0, np.arange(400))
    means = changed.mean((1, 2, 3))
    assert abs(np.mean(means) / FACE.mean() - 1) < 0.1
    assert min(means) / FACE.mean() < 0.6


def test_a_face_is_placed_by_its_frame():
    # A face whose values are their own coordinates, down and across.
    rows, columns = 60, 40
    down, across = np.mgrid[0:rows, 0:columns]
    face = np.stack([4 * down, 6 * across, 0 * down], -1).astype(np.uint8)
    middle = np.array([(rows - 1) / 2, (columns - 1) / 2])
    places = np.stack([down, across], -1) - middle
    for size, angle, shift in ((0.8, 0, (0, 0)), (1.2, 0, (0.1, -0.05)), (1, 0.3, (0, 0)), (0.9, -0.2, (-0.05, 0.1))):
        frame = [size * np.cos(angle), size * np.sin(angle), shift[0] * rows, shift[1] * columns]
        changed = np.asarray(change._placed(jnp.asarray(face), np.array(frame, np.float32), False))[..., :2] / [4, 6]
        turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        expected = middle + np.multiply(shift, (rows, columns)) + size * places @ turned.T
        expected = np.clip(expected, 0, [rows - 1, columns - 1])  # beyond the face its edge is repeated
        assert np.abs(changed - expected).max() < 0.001


def test_zooms_and_turns_are_centred_on_the_face_and_within_bounds():
    numbers = Changes(zoom=0.2, rotate=0.1).draw(0, 0, np.arange(2000), SHAPE)
    cos, sin, down, across = numbers[:, change._PLACED].T.astype(float)
    drawn = np.transpose([np.hypot(cos, sin) - 1, np.arctan2(sin, cos), down / SHAPE[0], across / SHAPE[1]])
    most = np.array([0.2, 0.1 * np.pi / 2, 0.1, 0.1])
    assert (np.abs(drawn) <= most * (1 + 1e-6)).all()
    assert (drawn.max(0) > 0.98 * most).all()
    assert (drawn.min(0) < -0.98 * most).all()
    assert (np.abs(drawn.mean(0)) < 0.06 * most).all()
    assert (np.abs(np.corrcoef(drawn.T) - np.eye(4)) < 0.1).all()


def test_beyond_the_face_its_edge_is_repeated():
    face = np.full((20, 30, 3), 100, np.uint8)
    face[0], face[-1], face[:, 0], face[:, -1] = 10, 20, 30, 40
    assert apply(Changes(zoom=0.95, rotate=0.95), face, 0, 0, np.arange(1000)).min() > 9.99


def test_a_rectangle_of_one_colour_is_erased_no_larger_than_allowed():
    blank = np.zeros((50, 50, 3), np.uint8)
    covered, areas, centres = np.zeros((50, 50)), [], []
    for face in apply(Changes(erase=0.3), blank, 0, 0, np.arange(500)):
        gone = face.any(-1)
        rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        assert gone.sum() == len(rows) * len(columns)
        assert len(np.unique(face[gone], axis=0)) == 1
        areas.append(gone.mean())
        centres.append([rows.mean(), columns.mean()])
        covered += gone
    assert 0.26 < max(areas) < 0.33
    assert abs(np.mean(areas) - 0.15) < 0.02
    assert min(covered[0].sum(), covered[-1].sum(), covered[:, 0].sum(), covered[:, -1].sum(), covered[25, 25]) > 0
    assert abs(covered[:25].sum() / covered.sum() - 0.5) < 0.05
    assert abs(covered[:, :25].sum() / covered.sum() - 0.5) < 0.05
    assert abs(np.corrcoef(np.transpose(centres))[0, 1]) < 4.5 / np.sqrt(500)
    full = apply(Changes(erase=0.95), FACE, 0, 0, 3)[0]
    assert full.shape == FACE.shape


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_mirror(rows, columns, step):
    image = np.random.default_rng(rows).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    changes, records = Changes(mirror=True), np.arange(4)
    numbers = changes.draw(0, step, records, (rows, columns))
    images = np.repeat(image[None], 4, axis=0)
    once = np.asarray(changes.apply(images, numbers))
    for row, mirrored in enumerate(numbers[:, 0]):
        np.testing.assert_array_equal(once[row], image[:, ::-1] if mirrored else image)
    np.testing.assert_array_equal(changes.apply(once, numbers), images)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.booleans())
def test_changes_of_size_zero_give_the_face_or_its_mirror_image(seed, mirrored):
    image = np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    numbers = np.zeros((1, NUMBERS), np.float32)
    numbers[0, 0], numbers[0, 1], numbers[0, 5] = mirrored, 1, 1  # the cosine and the factor of colours are 1
    found = _jitted(Changes(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, True))(image[None], numbers)[0]
    np.testing.assert_array_equal(found, image[:, ::-1] if mirrored else image)


def test_mirrors_are_fair_independent_and_can_be_off():
    records = np.arange(20_000)

    def mirrors(seed, step, **others):
        return Changes(mirror=True, **others).draw(seed, step, records, SHAPE)[:, 0] > 0

    one, other = mirrors(1, 0), mirrors(1, 1)
    for rate in (one.mean(), (one ^ other).mean(), (one ^ mirrors(2, 0)).mean()):
        assert abs(rate - 0.5) < 4.5 * 0.5 / np.sqrt(20_000)
    np.testing.assert_array_equal(mirrors(1, 0, zoom=0.1, erase=0.1), one)
    assert not Changes(zoom=0.1).draw(1, 0, records, SHAPE)[:, 0].any()
