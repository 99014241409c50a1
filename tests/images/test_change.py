import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.config import default_config
from facenet_jax.datasets.drawn import render
from facenet_jax.images import change as augment
from facenet_jax.images.change import Changes, _lit, _placed, mirror

SHAPE = (40, 32)
FACE = render(0, 1, 2, SHAPE)
EACH = [field.name for field in dataclasses.fields(Changes)]
strengths = st.fixed_dictionaries({name: st.sampled_from([0.0, 0.3, 0.95]) for name in EACH})


def test_the_config_has_each_change_and_none_is_on():
    assert dict(default_config().data.augment) == dataclasses.asdict(Changes())
    assert not Changes()
    assert Changes().apply(FACE, 0, 0, 0) is FACE


@given(strengths, st.integers(0, 9), st.integers(0, 10**6), st.integers(0, 10**12))
def test_a_changed_face_is_a_function_of_seed_step_and_record(chosen, seed, step, record):
    changes = Changes(**chosen)
    before = FACE.copy()
    one, other = (changes.apply(FACE, seed, step, record) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(FACE, before)
    assert one.shape == FACE.shape
    assert one.dtype == np.uint8
    assert bool(changes) == any(chosen.values())


@pytest.mark.parametrize("name", EACH)
def test_each_change_depends_on_seed_step_and_record_and_grows_with_its_strength(name):
    def distances(strength: float) -> list[float]:
        changes = Changes(**{name: strength})
        return [np.abs(changes.apply(FACE, 0, 0, record).astype(int) - FACE).mean() for record in range(60)]

    # What is moved at all is rounded down.
    assert max(distances(1e-6)) <= (1 if name in ("zoom", "rotate") else 0)
    assert 0 < np.mean(distances(0.2)) < np.mean(distances(0.8))
    changes = Changes(**{name: 0.8})
    faces = [changes.apply(FACE, *key) for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert len({face.tobytes() for face in faces}) == 4


def test_light_is_what_it_says():
    changed = Changes(brightness=0.5, contrast=0.5, saturation=0.5)
    luma = np.array([0.299, 0.587, 0.114])
    for factors in ((1.3, 1, 1), (1, 0.6, 1), (1, 1, 0.4), (0.7, 1.2, 1.4)):
        brightness, contrast, saturation = factors
        face = FACE.astype(np.float64)
        grey = (face @ luma)[..., None]
        expected = grey + saturation * (face - grey)
        expected = grey.mean() + contrast * (expected - grey.mean())
        expected = np.clip(brightness * expected, 0, 255)
        assert np.abs(_lit(FACE, *factors) - expected).max() < 0.51
    means = [changed.apply(FACE, 0, 0, record).mean() for record in range(400)]
    assert abs(np.mean(means) / FACE.mean() - 1) < 0.1
    assert min(means) / FACE.mean() < 0.6


def test_a_placed_face_shows_what_its_frame_says():
    # A face whose values say where they come from, down and across.
    rows, columns = 60, 40
    down, across = np.mgrid[0:rows, 0:columns]
    face = np.stack([4 * down, 6 * across, 0 * down], -1).astype(np.uint8)
    middle = np.array([(rows - 1) / 2, (columns - 1) / 2])
    places = np.stack([down, across], -1) - middle
    for size, angle, shift in ((0.8, 0, (0, 0)), (1.2, 0, (0.1, -0.05)), (1, 0.3, (0, 0)), (0.9, -0.2, (-0.05, 0.1))):
        changed = _placed(face, size, angle, shift)[..., :2] / [4, 6]
        turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        expected = middle + np.multiply(shift, (rows, columns)) + size * places @ turned.T
        expected = np.clip(expected, 0, [rows - 1, columns - 1])  # its edge, beyond it
        assert np.abs(changed - expected).max() < 0.26  # values are whole, and rounded down


def test_zooms_and_turns_lie_around_the_face_as_it_is_and_reach_no_farther_than_allowed(monkeypatch):
    frames = []
    monkeypatch.setattr(augment, "_placed", lambda image, *frame: frames.append(frame) or image)
    for record in range(2000):
        Changes(zoom=0.2, rotate=0.1).apply(FACE, 0, 0, record)
    drawn = np.array([(size - 1, angle, *shift) for size, angle, shift in frames])
    most = np.array([0.2, 0.1 * np.pi / 2, 0.1, 0.1])
    assert (np.abs(drawn) <= most).all()
    assert (drawn.max(0) > 0.98 * most).all()
    assert (drawn.min(0) < -0.98 * most).all()
    assert (np.abs(drawn.mean(0)) < 0.06 * most).all()
    assert (np.abs(np.corrcoef(drawn.T) - np.eye(4)) < 0.1).all()


@given(st.integers(0, 10**6))
def test_beyond_the_face_its_edge_is_repeated_and_nothing_is_black(record):
    face = np.full((20, 30, 3), 100, np.uint8)
    face[0], face[-1], face[:, 0], face[:, -1] = 10, 20, 30, 40
    assert Changes(zoom=0.95, rotate=0.95).apply(face, 0, 0, record).min() >= 9


def test_a_rectangle_of_one_colour_is_erased_no_larger_than_allowed():
    blank = np.zeros((50, 50, 3), np.uint8)
    covered, areas, centres = np.zeros((50, 50)), [], []
    for record in range(500):
        gone = Changes(erase=0.3).apply(blank, 0, 0, record).any(-1)
        rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        assert gone.sum() == len(rows) * len(columns)
        areas.append(gone.mean())
        centres.append([rows.mean(), columns.mean()])
        covered += gone
    assert 0.26 < max(areas) < 0.33
    assert abs(np.mean(areas) - 0.15) < 0.02
    assert min(covered[0].sum(), covered[-1].sum(), covered[:, 0].sum(), covered[:, -1].sum(), covered[25, 25]) > 0
    assert abs(covered[:25].sum() / covered.sum() - 0.5) < 0.05
    assert abs(covered[:, :25].sum() / covered.sum() - 0.5) < 0.05
    assert abs(np.corrcoef(np.transpose(centres))[0, 1]) < 4.5 / np.sqrt(500)
    full = Changes(erase=0.95).apply(FACE, 0, 0, 3)
    assert full.shape == FACE.shape


@given(st.integers(1, 9), st.integers(1, 9))
def test_mirror(rows, columns):
    image = np.random.default_rng(rows).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    out = np.empty_like(image)
    mirror(image, out)
    np.testing.assert_array_equal(out, image[:, ::-1])
