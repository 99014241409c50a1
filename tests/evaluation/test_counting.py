"""Pairs in tiles, on meshes and in one piece: the same counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facenet_jax.errors import InputError
from facenet_jax.evaluation import counting
from facenet_jax.evaluation.counting import pair_distances, squared_pair_distances
from facenet_jax.evaluation.counting_mesh import operating_points_on_mesh
from facenet_jax.evaluation.verification import operating_point
from facenet_jax.runtime.mesh import make_mesh

FARS = (0.001, 0.01, 0.2, 1.0)


def on_a_grid(n, m, identities, seed=0, d=8):
    """Points on a grid of 1/64, where float32 products and their sums are exact."""
    rng = np.random.default_rng(seed)
    left, right = (rng.integers(-24, 25, (size, d)).astype(np.float32) / 64 for size in (n, m))
    return left, right, rng.integers(0, identities, n), rng.integers(0, identities, m)


def naive(left, right):
    return np.sum((left[:, None].astype(np.float64) - right) ** 2, axis=-1)


@given(st.integers(2, 40), st.integers(1, 6), st.integers(1, 9), st.sampled_from([0, 10**9]))
def test_squared_pairs_are_judged_once_and_never_a_face_with_itself(n, identities, tile, all_kept):
    points, _, labels, _ = on_a_grid(n, 1, identities, seed=n)
    labels[1] = labels[0]
    upper = np.triu_indices(n, 1)
    distances, same = naive(points, points)[upper], (labels[:, None] == labels)[upper]
    pairs = squared_pair_distances(points, labels, 1.0, tile=tile, all_kept=all_kept)
    assert pairs.same.expand().tolist() == sorted(distances[same])
    assert pairs.different.expand().tolist() == sorted(distances[~same])
    assert [pairs.different_below[b] for b in (6, 94)] == [np.sum(distances[~same] < b / 64) for b in (6, 94)]


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_a_mesh_counts_as_one_piece_does(devices):
    sets = on_a_grid(70, 90, 9)
    pairs = pair_distances(*sets, max_far=1.0)
    expected = tuple(operating_point(pairs, far) for far in FARS)
    assert operating_points_on_mesh(*sets, FARS, make_mesh(devices), tile=16) == expected


def test_a_mesh_and_one_device_agree_on_any_points():
    rng = np.random.default_rng(4)
    points = rng.normal(size=(150, 32)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    sets = points[:80], points[80:], np.arange(80) % 7, np.arange(70) % 7
    one, eight = (operating_points_on_mesh(*sets, FARS, make_mesh(n), tile=16) for n in (1, 8))
    assert one == eight


@pytest.mark.parametrize("collapsed", [False, True])
def test_ties_and_collapse_on_a_mesh(collapsed):
    left, right, a, b = on_a_grid(30, 30, 3)
    left, right = (np.zeros_like(x) if collapsed else np.round(x * 2) / 2 for x in (left, right))
    pairs = pair_distances(left, right, a, b, max_far=1.0)
    expected = tuple(operating_point(pairs, far) for far in FARS)
    assert operating_points_on_mesh(left, right, a, b, FARS, make_mesh(2), tile=8) == expected


@settings(max_examples=15)
@given(st.floats(0, 1), st.sampled_from(FARS))
def test_a_bad_guess_of_the_cutoff_changes_no_rate(factor, far):
    sets = on_a_grid(60, 50, 6)
    exact = operating_point(pair_distances(*sets, max_far=1.0), far)
    with pytest.MonkeyPatch.context() as patch:
        guess = counting.sampled_distances
        patch.setattr(counting, "sampled_distances", lambda *rest: guess(*rest)[:5000] * np.float32(factor))
        assert operating_point(pair_distances(*sets, max_far=far, all_kept=0), far) == exact


def test_few_distances_are_kept_where_little_is_asked():
    sets = on_a_grid(300, 300, 30)
    pairs = pair_distances(*sets, max_far=0.001, all_kept=0)
    assert 89 <= len(pairs.different) < 1500
    assert not pairs.complete


def test_a_mesh_refuses_in_the_same_words():
    left, right, a, b = on_a_grid(5, 5, 2)
    with pytest.raises(InputError, match="No pair shows the same identity"):
        operating_points_on_mesh(left, right, a, b + 5, [0.1], make_mesh(1))
    left[3] = np.nan
    with pytest.raises(InputError, match="face 3 is not finite"):
        operating_points_on_mesh(left, right, a, b, [0.1], make_mesh(1))
