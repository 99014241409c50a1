"""Pictures that look the same have almost the same digest, others do not."""

import hashlib
import io

import numpy as np
from PIL import Image

from facenet_jax.datasets.drawn import render
from facenet_jax.images.digests import (
    LOOK_DISTANCE,
    content_digest,
    is_blank,
    look_digest,
    look_distance,
)


def face(identity, exemplar=0, side=112):
    return np.asarray(render(3, identity, exemplar, (side, side)))


def again(image, **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "jpeg", **options)
    return np.asarray(Image.open(stream))


def test_contents():
    assert content_digest(b"face") == hashlib.blake2b(b"face", digest_size=16).digest()


def test_the_bits_are_those_of_a_difference_hash():
    image = face(0)
    grey = Image.fromarray(image).convert("L").resize((17, 16), Image.Resampling.BILINEAR)
    values = np.asarray(grey).astype(int)
    look = look_digest(image)
    for row in range(16):
        for column in range(16):
            bit = int(look[(row + column) % 16]) >> row & 1
            assert bit == (values[row, column + 1] > values[row, column])


def test_the_same_picture_is_recognised_and_others_are_not():
    faces = [face(identity, exemplar) for identity in range(30) for exemplar in range(2)]
    looks = np.stack([look_digest(image) for image in faces])
    for change in (
        lambda image: again(image, quality=60),
        lambda image: np.asarray(Image.fromarray(image).resize((160, 160), Image.Resampling.BICUBIC)),
    ):
        changed = np.stack([look_digest(change(image)) for image in faces])
        assert np.mean(look_distance(looks, changed) <= LOOK_DISTANCE) > 0.9
    apart = look_distance(looks[:, None], looks[None]) + 999 * np.eye(len(looks), dtype=int)
    assert apart.min() > LOOK_DISTANCE
    assert not is_blank(looks).any()


def test_blank_pictures_are_not_compared():
    flat = look_digest(np.full((50, 50, 3), 90, np.uint8))
    ramp = look_digest(np.repeat(np.arange(0, 250, 5, np.uint8)[None, :, None], 50, 0).repeat(3, -1))
    assert is_blank(np.stack([flat, ramp])).all()
