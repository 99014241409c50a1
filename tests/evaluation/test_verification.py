"""VAL and FAR compared with a reference that loops over all pairs in float64."""

import math
from bisect import bisect_right
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluating import expanded
from facenet_jax.errors import InputError
from facenet_jax.evaluation.counting import pair_distances
from facenet_jax.evaluation.distance_counts import DistanceCounts
from facenet_jax.evaluation.verification import BINS_PER_UNIT, from_distances, operating_point, roc


def distances_by_loops(left, right, left_labels, right_labels):
    same, different = [], []
    for x, a in zip(np.asarray(left, np.float64), left_labels, strict=True):
        for y, b in zip(np.asarray(right, np.float64), right_labels, strict=True):
            (same if a == b else different).append(float(np.sum((x - y) ** 2)))
    return sorted(same), sorted(different)


def point_by_definition(same, different, far):
    """Tries every distance as threshold d by equations (4)-(6), and keeps the largest with FAR(d) <= far."""
    best = (None, 0.0, 0.0)
    for d in sorted({*same, *different}):
        false_accepts = bisect_right(different, d)
        if Fraction(false_accepts, len(different)) <= Fraction(str(far)):
            best = (d, bisect_right(same, d) / len(same), false_accepts / len(different))
    return best


def as_tuple(point):
    return point.threshold, point.val, point.far_reached


FARS = (0.01, 0.05, 0.1, 0.29, 0.5, 1.0)


@st.composite
def two_sets(draw):
    """Two sets of labelled points on a grid of 1/64, where float32 makes no error; small values force ties."""
    n, m, d = draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    width = draw(st.sampled_from([0, 1, 4, 64]))
    coordinates = st.integers(-width, width)
    rows = draw(st.lists(st.lists(coordinates, min_size=d, max_size=d), min_size=n + m, max_size=n + m))
    labels = draw(st.lists(st.integers(0, 3), min_size=n + m, max_size=n + m))
    labels[n] = labels[0]  # at least one same pair
    points = np.array(rows, np.float32) / 64
    return points[:n], points[n:], np.array(labels[:n]), np.array(labels[n:])


@settings(deadline=None, max_examples=60)
@given(two_sets(), st.sampled_from(FARS), st.integers(1, 13), st.sampled_from([0, 10**9]))
def test_counts_on_a_grid_are_exactly_those_of_the_loops(sets, far, tile, all_kept):
    pairs = pair_distances(*sets, max_far=far, tile=tile, all_kept=all_kept)
    same, different = distances_by_loops(*sets)
    assert expanded(pairs.same).tolist() == same
    assert pairs.different_pairs == len(different)
    kept = expanded(pairs.different).tolist()
    assert kept == different[: len(kept)]
    assert pairs.complete == (len(kept) == len(different))
    for b in (0, 1, 16, 100, 255):
        assert pairs.different_below[b] == sum(x < b / BINS_PER_UNIT for x in different)
    assert pairs.different_below[-1] == len(different)

    point = operating_point(pairs, far)
    assert point.resolved == (Fraction(str(far)) * len(different) >= 1)
    if point.resolved:
        assert as_tuple(point) == point_by_definition(same, different, far)
    else:
        assert as_tuple(point) == (None, None, None)


@settings(deadline=None, max_examples=30)
@given(two_sets())
def test_val_and_far_rise_with_the_far_asked(sets):
    pairs = pair_distances(*sets, max_far=1.0)
    points = [point for point in (operating_point(pairs, far) for far in FARS) if point.resolved]
    assert [p.val for p in points] == sorted(p.val for p in points)
    assert [p.far_reached for p in points] == sorted(p.far_reached for p in points)
    assert all(p.far_reached <= p.far for p in points)


@settings(deadline=None, max_examples=30)
@given(two_sets(), st.sampled_from(FARS))
def test_roc_is_monotone_and_every_point_is_true(sets, max_far):
    curve = roc(pair_distances(*sets, max_far=max_far, all_kept=0))
    fars, vals = curve.far, curve.val
    same, different = distances_by_loops(*sets)
    assert (len(fars) == 0) == (len(different) == 0)
    assert np.all(np.diff(fars) >= 0)
    assert np.all(np.diff(vals) >= 0)
    true = {
        (bisect_right(different, d) / len(different), bisect_right(same, d) / len(same))
        for d in [*same, *different]
        if different
    }
    assert {*zip(fars.tolist(), vals.tolist(), strict=True)} <= true
    if len(fars):
        assert (fars[-1], vals[-1]) == (1, 1)


def test_random_unit_vectors_agree_with_float64_loops_for_any_block():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(150, 16))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    labels = rng.integers(0, 12, 150)
    sets = points[:80].astype(np.float32), points[80:].astype(np.float32), labels[:80], labels[80:]
    same, different = distances_by_loops(*sets)
    for tile in (7, 64, 1000):
        pairs = pair_distances(*sets, max_far=0.1, tile=tile)
        np.testing.assert_allclose(expanded(pairs.same), same, atol=2e-6)
        np.testing.assert_allclose(expanded(pairs.different), different, atol=2e-6)
        for far in (0.001, 0.01, 0.1):
            threshold, val, reached = point_by_definition(same, different, far)
            point = operating_point(pairs, far)
            # Only distances that float32 cannot tell apart may end up on the other side of the threshold.
            assert point.threshold == pytest.approx(threshold, abs=1e-5)
            assert point.val == pytest.approx(val, abs=1.5 / len(same))
            assert point.far_reached == pytest.approx(reached, abs=1.5 / len(different))


def on_a_line(same, different):
    """Faces at given distances (sums of squares of one coordinate) from one face at the origin."""
    right = np.sqrt(np.array([*same, *different], np.float64))[:, None].astype(np.float32)
    return np.zeros((1, 1), np.float32), right, np.zeros(1), np.array([0] * len(same) + [1] * len(different))


def test_ties_at_the_threshold_are_refused_together():
    # Squares of multiples of 1/2 are exact. Two false accepts are allowed, but three share the second place.
    pairs = pair_distances(*on_a_line([0.25, 1, 2.25], [0.25, 1, 1, 1, 2.25, 2.25, 4, 4, 4, 4]), max_far=0.5)
    assert as_tuple(operating_point(pairs, 0.2)) == (0.25, 1 / 3, 0.1)
    assert as_tuple(operating_point(pairs, 0.3)) == (0.25, 1 / 3, 0.1)
    assert as_tuple(operating_point(pairs, 0.4)) == (1.0, 2 / 3, 0.4)


def test_same_pairs_up_to_the_next_different_pair_are_accepted():
    pairs = pair_distances(*on_a_line([0.25, 2.25, 6.25], [1, 4, 4, 4]), max_far=0.25)
    assert as_tuple(operating_point(pairs, 0.25)) == (2.25, 2 / 3, 0.25)


def test_collapsed_embeddings_accept_nothing_below_a_far_of_one():
    faces, labels = np.full((8, 4), 0.5, np.float32), np.arange(8) % 2
    pairs = pair_distances(faces, faces, labels, labels, max_far=1.0)
    assert as_tuple(operating_point(pairs, 0.5)) == (None, 0.0, 0.0)
    assert as_tuple(operating_point(pairs, 1.0)) == (0.0, 1.0, 1.0)


def test_one_pair_of_each_kind():
    pairs = pair_distances(*on_a_line([1], [4]), max_far=1.0)
    assert as_tuple(operating_point(pairs, 1.0)) == (4.0, 1.0, 1.0)
    assert not operating_point(pairs, 0.5).resolved


@pytest.mark.parametrize(("pairs", "far", "accepted"), [(100, 0.29, 29), (1000, 0.001, 1), (100, 0.07, 7)])
def test_a_far_counts_as_the_decimal_that_is_written(pairs, far, accepted):
    judged = pair_distances(*on_a_line([0], (np.arange(pairs) / 64) ** 2 + 1), max_far=far)
    point = operating_point(judged, far)
    assert point.far_reached == far
    assert round(point.far_reached * pairs) == accepted


@pytest.mark.parametrize("far", [0.3, 0.01, 1e-3, 1e-6])
def test_a_far_that_the_pairs_cannot_resolve_says_how_many_it_needs(far):
    pairs = pair_distances(*on_a_line([1], [4, 4, 4]), max_far=far)
    point = operating_point(pairs, far)
    assert (point.resolved, *as_tuple(point)) == (False, None, None, None)
    assert point.pairs_needed == math.ceil(1 / Fraction(str(far)))
    enough = pair_distances(*on_a_line([1], [4] * 4), max_far=0.3)
    assert operating_point(enough, 0.3).resolved


def test_no_different_pair_at_all():
    pairs = pair_distances(*on_a_line([1, 4], []), max_far=0.1)
    assert not operating_point(pairs, 0.1).resolved
    curve = roc(pairs)
    assert (len(curve.far), len(curve.val), math.isnan(curve.area)) == (0, 0, True)


def test_distances_are_never_negative():
    rng = np.random.default_rng(0)
    faces = (rng.normal(size=(50, 128)) * 1e-3 + 1 / math.sqrt(128)).astype(np.float32)
    assert pair_distances(faces, faces, np.arange(50), np.arange(50), max_far=1.0).same.values.min() >= 0


def test_bad_input_is_refused_in_one_sentence():
    faces, labels = np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1])
    with pytest.raises(InputError, match="No pair shows the same identity"):
        pair_distances(faces, faces, labels, labels + 2, max_far=0.1)
    with pytest.raises(InputError, match="cannot be paired"):
        pair_distances(faces, faces[:, :2], labels, labels, max_far=0.1)
    with pytest.raises(InputError, match="cannot be paired"):
        pair_distances(faces, faces, labels[:3], labels, max_far=0.1)
    broken = faces.copy()
    broken[2, 1] = np.nan
    with pytest.raises(InputError, match=r"face 2 is not finite \(1 of 4"):
        pair_distances(faces, broken, labels, labels, max_far=0.1)
    pairs = pair_distances(faces, faces, labels, labels, max_far=0.2, all_kept=0)
    for far in (0.0, -0.1, 1.5, math.nan):
        with pytest.raises(InputError, match=r"must lie in \(0, 1\]"):
            operating_point(pairs, far)
    with pytest.raises(InputError, match="1 of the 2 distances of different pairs are not finite"):
        from_distances([0.1], [0.2, np.nan])
    with pytest.raises(InputError, match="No pair shows"):
        from_distances([], [0.2])
    incomplete = replace(pairs, different=DistanceCounts(expanded(pairs.different)[:2]))
    with pytest.raises(ValueError, match="max_far"):
        operating_point(incomplete, 0.9)
