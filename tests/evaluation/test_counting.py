"""Counting pairs in tiles, on devices and in one piece gives the same counts."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluating import expanded
from facenet_jax.errors import InputError
from facenet_jax.evaluation import counting
from facenet_jax.evaluation.counting import pair_distances, squared_pair_distances
from facenet_jax.evaluation.verification import operating_point

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
    assert expanded(pairs.same).tolist() == sorted(distances[same])
    assert expanded(pairs.different).tolist() == sorted(distances[~same])
    assert [pairs.different_below[b] for b in (6, 94)] == [np.sum(distances[~same] < b / 64) for b in (6, 94)]


def same_counts(one, other):
    """Whether two PairDistances hold the same numbers."""
    for part in ("same", "different"):
        np.testing.assert_array_equal(expanded(getattr(one, part)), expanded(getattr(other, part)))
    np.testing.assert_array_equal(one.different_below, other.different_below)
    return True


def points_at(pairs):
    return tuple(operating_point(pairs, far) for far in FARS)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_devices_count_as_one_piece_does(devices):
    sets = on_a_grid(70, 90, 9)
    expected = pair_distances(*sets, max_far=1.0)
    found = pair_distances(*sets, max_far=1.0, tile=16, devices=jax.devices()[:devices])
    assert points_at(found) == points_at(expected)
    assert same_counts(found, expected)


@pytest.mark.parametrize("all_kept", [0, 10**9])
def test_devices_count_squared_pairs_as_one_piece_does(all_kept):
    points, _, labels, _ = on_a_grid(90, 1, 9)
    expected = squared_pair_distances(points, labels, 0.2, all_kept=all_kept)
    found = squared_pair_distances(points, labels, 0.2, tile=16, all_kept=all_kept, devices=jax.devices()[:2])
    assert same_counts(found, expected)
    assert found.complete == (all_kept > 0)


def test_several_devices_and_one_agree_on_any_points():
    rng = np.random.default_rng(4)
    points = rng.normal(size=(150, 32)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    sets = points[:80], points[80:], np.arange(80) % 7, np.arange(70) % 7
    one, eight = (pair_distances(*sets, 1.0, tile=16, devices=jax.devices()[:n]) for n in (1, 8))
    assert points_at(one) == points_at(eight)
    assert same_counts(one, eight)


@pytest.mark.parametrize("collapsed", [False, True])
def test_ties_and_collapse_on_devices(collapsed):
    left, right, a, b = on_a_grid(30, 30, 3)
    left, right = (np.zeros_like(x) if collapsed else np.round(x * 2) / 2 for x in (left, right))
    expected = pair_distances(left, right, a, b, max_far=1.0)
    found = pair_distances(left, right, a, b, max_far=1.0, tile=8, devices=jax.devices()[:2])
    assert points_at(found) == points_at(expected)


def test_accelerators_count_where_there_are_some(monkeypatch):
    sets = on_a_grid(30, 40, 5)
    expected = pair_distances(*sets, max_far=1.0)
    assert counting.counted_on() == "cpu"
    strips = []
    of_devices = counting.DeviceStrips
    monkeypatch.setattr(counting, "accelerators", lambda: jax.devices()[:2])
    monkeypatch.setattr(counting, "DEVICE_TILE", 16)
    monkeypatch.setattr(counting, "DeviceStrips", lambda *rest: strips.append(of_devices(*rest)) or strips[-1])
    assert same_counts(pair_distances(*sets, max_far=1.0), expected)
    assert (counting.counted_on(), len(strips)) == ("2 cpu", 1)


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


def test_devices_refuse_in_the_same_words():
    left, right, a, b = on_a_grid(5, 5, 2)
    devices = jax.devices()[:1]
    with pytest.raises(InputError, match="No pair shows the same identity"):
        pair_distances(left, right, a, b + 5, 0.1, devices=devices)
    left[3] = np.nan
    with pytest.raises(InputError, match="face 3 is not finite"):
        pair_distances(left, right, a, b, 0.1, devices=devices)
