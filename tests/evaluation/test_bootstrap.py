"""Bootstrap over people, and paired tests, checked by plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluating import unit
from facenet_jax.evaluation.bootstrap import (
    compare_replicates,
    identity_weights,
    interval,
    mcnemar,
    val_over_identities,
    val_over_pairs,
)
from facenet_jax.evaluation.counting import pair_distances, squared_pair_distances
from facenet_jax.evaluation.labelled_pairs import closest, listed, wrong_pairs
from facenet_jax.evaluation.verification import operating_point

FARS = (0.05, 0.2)


def faces(n=60, identities=8, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % identities
    points = rng.normal(size=(identities, 8))[labels] + noise * rng.normal(size=(n, 8))
    return unit(points), labels


def val_by_copies(points, labels, pairs, weights, far):
    """VAL with each person as often as drawn. Two copies of a person make no pair of different people."""
    same, different = [], []
    for i, j in pairs:
        distance = float(np.sum((points[i].astype(np.float64) - points[j]) ** 2))
        if labels[i] == labels[j]:
            same += [distance] * int(weights[labels[i]])
        else:
            different += [distance] * int(weights[labels[i]] * weights[labels[j]])
    different.sort()
    allowed = math.floor(far * len(different) + 1e-9)
    bound = different[allowed] if allowed < len(different) else math.inf
    return sum(d < bound for d in same) / len(same)


def labelled_squared(points, labels, max_far):
    counted = squared_pair_distances(points, labels, min(1.0, 3 * max_far))
    return closest(points, labels, np.arange(len(points)), None, counted, max_far)


@pytest.mark.parametrize("kind", ["squared", "halves", "listed"])
def test_a_replicate_counts_people_as_often_as_they_are_drawn(kind, monkeypatch):
    monkeypatch.setattr("facenet_jax.evaluation.labelled_pairs._LEAST", 0)  # only the closest pairs are kept
    points, labels = faces()
    left, right = np.arange(0, 60, 2), np.arange(1, 60, 2)
    if kind == "squared":
        every = [(i, j) for i in range(60) for j in range(i + 1, 60)]
        pairs = labelled_squared(points, labels, max(FARS))
    elif kind == "halves":
        # Faces with even numbers are of people with even numbers: only halved labels put people on both sides.
        labels = labels // 2
        every = [(i, j) for i in left for j in right]
        counted = pair_distances(points[left], points[right], labels[left], labels[right], 0.6)
        pairs = closest(points, labels, left, right, counted, max(FARS))
    else:
        every = [(i, (i * 7 + 3) % 60) for i in range(60) if i != (i * 7 + 3) % 60]
        every += [(i, i + 8) for i in range(40)]
        array = np.array(every)
        distances = np.sum((points[array[:, 0]] - points[array[:, 1]]) ** 2, axis=1)
        pairs = listed(distances, array, labels[array[:, 0]] == labels[array[:, 1]], labels)
    weights = identity_weights(int(labels.max()) + 1, 6, seed=3)
    assert weights.sum(axis=1).tolist() == [labels.max() + 1] * 6
    found = val_over_identities(pairs, FARS, weights)
    for row, weight in zip(found, weights, strict=True):
        for value, far in zip(row, FARS, strict=True):
            assert value == pytest.approx(val_by_copies(points, labels, every, weight, far), abs=1e-9)


def test_where_few_false_accepts_are_allowed_no_replicate_is_cut_off():
    points, labels = faces(48, 12)
    first, second = np.triu_indices(48, 1)
    distances = np.sum((points[first] - points[second]) ** 2, axis=1)
    every = listed(distances, np.stack([first, second], 1), labels[first] == labels[second], labels)
    kept = closest(points, labels, np.arange(48), None, squared_pair_distances(points, labels, 0.006), 0.002)
    weights = identity_weights(12, 400)
    found, expected = (val_over_identities(pairs, (0.002,), weights) for pairs in (kept, every))
    np.testing.assert_array_equal(found, expected)


def test_weights_of_one_give_the_rate_itself():
    points, labels = faces(80, 10)
    pairs = labelled_squared(points, labels, 0.05)
    counted = squared_pair_distances(points, labels, 1.0)
    point = operating_point(counted, 0.05)
    assert val_over_identities(pairs, [0.05], np.ones((1, 10)))[0, 0] == pytest.approx(point.val)


def test_intervals_over_people_are_wider_than_over_pairs():
    points, labels = faces(160, 8, noise=1.2)
    pairs = labelled_squared(points, labels, 0.05)
    people = val_over_identities(pairs, [0.05], identity_weights(8, 300))[:, 0]
    by_pairs = val_over_pairs(pairs, [0.05], 160 * 159 // 2 - len(pairs.same), 300)[:, 0]
    assert np.std(people) > 1.5 * np.std(by_pairs)
    low, high = interval(people)
    assert low < np.median(people) < high
    assert interval(np.array([np.nan])) is None


def test_wrong_pairs_are_those_beyond_the_threshold():
    points, labels = faces(60, 6, noise=1.5)
    pairs = labelled_squared(points, labels, 0.05)
    point = operating_point(squared_pair_distances(points, labels, 1.0), 0.05)
    wrong = wrong_pairs(pairs, point, most=10**6)
    distance = lambda i, j: float(np.sum((points[i].astype(np.float64) - points[j]) ** 2))  # noqa: E731
    assert len(wrong.accepts) == round(point.far_reached * point.different_pairs)
    assert len(wrong.rejects) == round((1 - point.val) * point.same_pairs)
    assert all(labels[i] != labels[j] and d == pytest.approx(distance(i, j), abs=1e-5) for i, j, d in wrong.accepts)
    assert all(labels[i] == labels[j] and d > point.threshold for i, j, d in wrong.rejects)
    assert sum(rejected for _, _, rejected, _ in wrong.people) == len(wrong.rejects)
    assert sum(accepts for *_, accepts in wrong.people) == 2 * len(wrong.accepts)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 20))
def test_mcnemar_is_the_two_sided_binomial_test(only_first, only_second, both):
    scipy_stats = pytest.importorskip("scipy.stats")
    first = np.array([True] * only_first + [False] * only_second + [True] * both + [False])
    second = np.array([False] * only_first + [True] * only_second + [True] * both + [False])
    found = mcnemar(("a", first), ("b", second))
    n = only_first + only_second
    expected = scipy_stats.binomtest(only_first, n).pvalue if n else 1.0
    assert found.p == pytest.approx(expected)
    assert found.difference == pytest.approx((only_second - only_first) / len(first))


def test_the_paired_bootstrap_sees_a_difference_that_people_share():
    rng = np.random.default_rng(0)
    common = rng.normal(0.5, 0.1, 1000)
    better = compare_replicates(("a", 0.5, common), ("b", 0.52, common + 0.02), "VAL")
    assert (better.p, better.low, better.high) == (pytest.approx(0.001), pytest.approx(0.02), pytest.approx(0.02))
    equal = compare_replicates(("a", 0.5, common), ("b", 0.5, common), "VAL")
    assert equal.p == 1
