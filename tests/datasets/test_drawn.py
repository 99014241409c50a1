"""Drawn faces: the same numbers give the same picture, there is no end of them, and people differ."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facenet_jax.datasets.drawn import people as synthetic
from facenet_jax.errors import InputError

# One face in grey, averaged over 8 by 8 blocks and rounded. A renderer that draws other people than before fails here;
# one that only rounds floats differently does not.
STORED = """
97 112 125 133 138 149 153 154
108 124 94 82 103 134 184 193
119 110 61 83 103 118 181 219
125 84 65 100 99 134 170 226
137 83 95 112 125 150 164 214
144 106 104 111 146 164 179 226
153 148 115 108 159 176 207 230
161 156 110 110 121 152 214 225
"""


def digest(faces: np.ndarray) -> str:
    return hashlib.sha256(faces.tobytes()).hexdigest()


@given(
    seed=st.integers(0, 2**40),
    identity=st.integers(0, 8_000_000),
    exemplar=st.integers(0, 1_000_000),
    rows=st.integers(16, 48),
    cols=st.integers(16, 48),
)
@settings(max_examples=60, deadline=None)
def test_every_face_is_a_picture_and_the_same_one_again(seed, identity, exemplar, rows, cols):
    face = synthetic.render(seed, identity, exemplar, (rows, cols))
    assert face.shape == (rows, cols, 3)
    assert face.dtype == np.uint8
    assert face.std() > 3, "a face is not one colour"
    np.testing.assert_array_equal(face, synthetic.render(seed, identity, exemplar, (rows, cols)))


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (140, 116), (160, 160), (224, 224)])
def test_a_batch_gives_the_same_bits_as_its_faces_drawn_one_by_one(size):
    identities, exemplars = np.array([0, 3, 3, 7_999_999, 12]), np.array([0, 5, 6, 1_000_000, 3])
    faces = synthetic.render_batch(9, identities, exemplars, size)
    assert faces.shape == (5, *size, 3)
    for face, identity, exemplar in zip(faces, identities, exemplars, strict=True):
        np.testing.assert_array_equal(face, synthetic.render(9, int(identity), int(exemplar), size))
    np.testing.assert_array_equal(faces[::-1], synthetic.render_batch(9, identities[::-1], exemplars[::-1], size))


def test_another_process_draws_the_same_bits():
    code = (
        "import hashlib; from facenet_jax.datasets.drawn import people as synthetic;"
        "print(hashlib.sha256(synthetic.render_batch(1, range(8), range(8), (48, 40)).tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == digest(synthetic.render_batch(1, range(8), range(8), (48, 40)))


def test_a_known_face_is_drawn_as_before():
    face = synthetic.render(0, 0, 0, (64, 64)).astype(np.float64).mean(-1)
    blocks = face.reshape(8, 8, 8, 8).mean((1, 3))
    np.testing.assert_allclose(blocks, np.array(STORED.split(), float).reshape(8, 8), atol=1.0)


def test_seed_identity_and_exemplar_each_change_the_picture():
    face = synthetic.render(0, 1, 2).astype(int)
    for other in (synthetic.render(1, 1, 2), synthetic.render(0, 2, 2), synthetic.render(0, 1, 3)):
        assert np.abs(face - other).mean() > 5


def test_a_narrow_picture_cuts_the_sides_and_does_not_squeeze():
    # The grey middles of the wide and the narrow picture differ only by background and noise.
    for identity in range(8):
        wide = synthetic.render(0, identity, 1, (140, 140)).astype(float).mean(-1)[:, 12:-12]
        narrow = synthetic.render(0, identity, 1, (140, 116)).astype(float).mean(-1)
        middle = (slice(40, 110), slice(35, 81))
        assert np.corrcoef(wide[middle].ravel(), narrow[middle].ravel())[0, 1] > 0.95


def test_people_differ_in_shape_beyond_what_pictures_of_one_person_do():
    # Grey, standardised thumbnails have no colour, brightness or contrast: what is left is geometry.
    people, pictures = 40, 12
    who = np.repeat(np.arange(people), pictures)
    faces = synthetic.render_batch(0, who, np.tile(np.arange(pictures), people), (32, 32)).astype(np.float64)
    thumbs = faces.mean(-1).reshape(len(who), 16, 2, 16, 2).mean((2, 4)).reshape(len(who), -1)
    thumbs -= thumbs.mean(1, keepdims=True)
    thumbs /= np.linalg.norm(thumbs, axis=1, keepdims=True)
    likeness = thumbs @ thumbs.T
    same = who[:, None] == who
    genuine, impostor = likeness[same & ~np.eye(len(who), dtype=bool)], likeness[~same]
    assert genuine.mean() > impostor.mean() + 0.5 * impostor.std()
    # The mean picture of one half of a person's pictures is nearest to that of the other half far above chance (1/40).
    halves = thumbs.reshape(people, 2, -1, thumbs.shape[1]).mean(2)
    found = np.argmax(halves[:, 0] @ halves[:, 1].T, axis=1) == np.arange(people)
    assert found.mean() > 0.3


def test_colour_alone_does_not_tell_who_it_is():
    people, pictures = 40, 8
    who = np.repeat(np.arange(people), pictures)
    colours = synthetic.render_batch(0, who, np.tile(np.arange(pictures), people), (32, 32)).mean((1, 2))
    distance = np.linalg.norm(colours[:, None] - colours, axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert np.mean(who[distance.argmin(1)] == who) < 0.15


@pytest.mark.parametrize(
    ("identities", "exemplars", "size"),
    [
        ([-1], [0], (64, 64)),
        ([0], [-1], (64, 64)),
        ([0.5], [0], (64, 64)),
        ([0, 1], [0], (64, 64)),
        ([[0]], [[0]], (64, 64)),
        ([0], [0], (15, 64)),
    ],
)
def test_bad_numbers_are_named(identities, exemplars, size):
    with pytest.raises(InputError, match="drawn faces"):
        synthetic.render_batch(0, identities, exemplars, size)


def test_a_batch_may_be_empty():
    none = np.zeros(0, np.int64)
    assert synthetic.render_batch(0, none, none, (64, 48)).shape == (0, 64, 48, 3)
