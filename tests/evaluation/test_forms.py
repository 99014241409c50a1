"""Videos compared by their means, embeddings in int8, and images in lower quality."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluating import unit
from facenet_jax.errors import InputError
from facenet_jax.evaluation.compact import calibrate, distance_error, largest_error, pack, unpack
from facenet_jax.evaluation.protocols.robustness import recompress, shrink
from facenet_jax.evaluation.protocols.ytf import mean_distances, video_means


def drawn(n, d=16, seed=0):
    points = np.random.default_rng(seed).normal(size=(n, d))
    return unit(points)


@given(st.lists(st.integers(1, 7), min_size=2, max_size=5))
def test_means_give_the_mean_over_all_pairs_of_frames(frames):
    video = np.repeat(np.arange(len(frames)), frames)
    points = drawn(len(video), seed=sum(frames))
    pairs = np.array([(i, j) for i in range(len(frames)) for j in range(len(frames))])
    found = mean_distances(video_means(points, video, len(frames)), pairs)
    for (i, j), distance in zip(pairs, found, strict=True):
        every = [np.sum((a - b) ** 2) for a in points[video == i] for b in points[video == j]]
        assert distance == pytest.approx(np.mean(every), abs=1e-5)


def all_distances(points):
    points = points.astype(np.float64)
    return np.sum((points[:, None] - points) ** 2, axis=-1)


@given(st.integers(1, 60), st.integers(1, 40), st.floats(0.3, 3), st.integers(0, 99))
def test_int8_keeps_distances_within_their_bound(n, d, share, seed):
    points = drawn(n, d, seed)
    step = share * calibrate(points)
    packed = pack(points, step)
    assert (packed.codes.dtype, packed.codes.shape) == (np.int8, (n, d))
    assert packed.clipped == np.sum(np.abs(points) > 127.5 * step)
    before, after = all_distances(points), all_distances(unpack(packed.codes, step))
    bounds = np.vectorize(partial(distance_error, 2 * packed.rounding))(before)
    assert np.all(np.abs(after - before) <= bounds + 1e-6)
    assert largest_error(points, packed.points) == pytest.approx(np.abs(after - before).max(), abs=1e-6)
    if not packed.clipped:
        assert packed.rounding <= step / 2 * np.sqrt(d) * 1.001


def test_one_byte_per_coordinate_changes_little():
    points = drawn(200, 128)
    packed = pack(points, calibrate(points))
    assert np.abs(packed.codes).max() == 127
    assert packed.codes.nbytes == 200 * 128
    assert 0 < largest_error(points, packed.points) < 0.02
    assert pack(points[:0], packed.step).rounding == 0


def test_jpeg_and_few_pixels():
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (15, 20, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    errors = [np.abs(recompress(q, image).astype(int) - image).mean() for q in (10, 50, 90)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1
    assert shrink(1600, image).shape == (40, 40, 3)
    assert shrink(65_536, image) is image
    for quality in (0, 96):
        with pytest.raises(InputError, match="out of range"):
            recompress(quality, image)
    with pytest.raises(InputError, match="0 pixels"):
        shrink(0, image)
