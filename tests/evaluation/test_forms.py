"""Videos by their means, embeddings as bytes, faces made worse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.errors import InputError
from facenet_jax.evaluation.compact import from_bytes, to_bytes
from facenet_jax.evaluation.quality import recompress, shrink
from facenet_jax.evaluation.videos import mean_distances, video_means


def unit(n, d=16, seed=0):
    points = np.random.default_rng(seed).normal(size=(n, d))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@given(st.lists(st.integers(1, 7), min_size=2, max_size=5))
def test_means_give_the_mean_over_all_pairs_of_frames(frames):
    video = np.repeat(np.arange(len(frames)), frames)
    points = unit(len(video), seed=sum(frames))
    pairs = np.array([(i, j) for i in range(len(frames)) for j in range(len(frames))])
    found = mean_distances(video_means(points, video, len(frames)), pairs)
    for (i, j), distance in zip(pairs, found, strict=True):
        every = [np.sum((a - b) ** 2) for a in points[video == i] for b in points[video == j]]
        assert distance == pytest.approx(np.mean(every), abs=1e-5)


def test_bytes_keep_distances():
    points = unit(200, 128)
    packed = to_bytes(points)
    assert (packed.dtype, packed.nbytes) == (np.int8, 200 * 128)
    assert np.abs(packed).max(axis=1).tolist() == [127] * 200
    unpacked = from_bytes(packed)
    np.testing.assert_allclose(np.linalg.norm(unpacked, axis=1), 1, atol=1e-6)
    before, after = (np.sum((p[:, None] - p) ** 2, axis=-1) for p in (points, unpacked))
    assert 0 < np.abs(before - after).max() < 0.02


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
