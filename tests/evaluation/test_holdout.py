"""The hold-out protocol compared with its definition; its table and its JSON."""

import json
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluating import unit
from facenet_jax.errors import InputError
from facenet_jax.evaluation import holdout as holdout_module
from facenet_jax.evaluation.counting import pair_distances
from facenet_jax.evaluation.holdout import format_holdout, holdout, holdout_intervals, holdout_to_json


def faces(identities, per_identity=6, noise=0.7, seed=0, d=16):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(identities), per_identity)
    labels = labels[rng.permutation(len(labels))]
    points = rng.normal(size=(identities, d))[labels] + noise * rng.normal(size=(len(labels), d))
    return unit(points), labels


def test_every_identity_is_in_one_split_and_its_faces_alternate():
    labels = np.array([0] * 2 + [1] * 3 + [2] * 4 + [3] * 5 + [4] * 1 + list(range(5, 25)) * 2)
    points = np.eye(len(labels), dtype=np.float32)
    result = holdout(points, labels, fars=[0.5])
    assert (result.identities, result.faces) == (24, len(labels) - 1)  # the identity with one face takes no part
    assert [split.identities for split in result.splits] == [5, 5, 5, 5, 4]
    assert sum(split.faces for split in result.splits) == result.faces
    assert result.same_pairs == 1 * 1 + 2 * 1 + 2 * 2 + 3 * 2 + 20 * 1


def test_one_split_judges_all_pairs_between_the_alternating_halves():
    points, labels = faces(5, per_identity=7)
    seen, halves = {}, ([], [])
    for i, label in enumerate(labels):
        halves[seen.get(label, 0) % 2].append(i)
        seen[label] = seen.get(label, 0) + 1
    same, different = [], []
    for i in halves[0]:
        for j in halves[1]:
            distance = np.sum((points[i].astype(np.float64) - points[j]) ** 2)
            (same if labels[i] == labels[j] else different).append(distance)
    (rate,) = holdout(points, labels, fars=[0.05]).rates
    bound = sorted(different)[math.floor(0.05 * len(different))]
    assert rate.val == pytest.approx(np.mean(np.array(same) < bound), abs=1e-12)
    assert rate.far_reached == pytest.approx(math.floor(0.05 * len(different)) / len(different), abs=1e-12)


def test_mean_and_standard_error_over_five_splits():
    result = holdout(*faces(30), fars=(0.1, 0.01))
    assert len(result.splits) == 5
    for i, rate in enumerate(result.rates):
        vals = [split.points[i].val for split in result.splits]
        assert len(set(vals)) > 1
        assert rate.val == pytest.approx(sum(vals) / 5)
        variance = sum((val - rate.val) ** 2 for val in vals) / 4
        assert rate.standard_error == pytest.approx(math.sqrt(variance / 5))


@pytest.mark.parametrize(("identities", "splits"), [(2, 1), (7, 1), (8, 2), (19, 4), (20, 5), (40, 5)])
def test_too_few_identities_make_fewer_splits(identities, splits):
    result = holdout(*faces(identities), fars=[0.5])
    assert len(result.splits) == splits
    assert (result.rates[0].standard_error is None) == (splits == 1)


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(12)), st.integers(0, 5))
def test_names_of_identities_do_not_matter(names, seed):
    points, labels = faces(12)
    renamed = np.array([f"person {names[label]}" for label in labels])
    assert holdout(points, renamed, seed=seed) == holdout(points, labels, seed=seed)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(0.003, 1), min_size=2, max_size=6), st.floats(0.1, 2))
def test_val_rises_with_far(fars, noise):
    rates = [rate for rate in holdout(*faces(12, noise=noise), fars=sorted(fars)).rates if rate.val is not None]
    assert [rate.val for rate in rates] == sorted(rate.val for rate in rates)
    assert all(rate.far_reached <= rate.far for rate in rates)


def test_the_seed_deals_the_splits():
    points, labels = faces(30)
    assert holdout(points, labels, seed=1) == holdout(points, labels, seed=1)
    assert holdout(points, labels, seed=1).splits != holdout(points, labels, seed=2).splits


def test_table_and_json_say_what_was_measured_and_what_was_not():
    result = holdout(*faces(30), fars=(0.1, 1e-5))
    table = format_holdout(result)
    rate = result.rates[0]
    assert f"{100 * rate.val:.1f}% ± {100 * rate.standard_error:.1f}" in table
    assert f"{result.same_pairs:,} same and {result.different_pairs:,} different pairs" in table
    unresolved = next(line for line in table.splitlines() if "unresolved" in line)
    assert "needs 100,000 different pairs in every split, has 270" in unresolved
    assert "%" not in unresolved

    plain = holdout_to_json(result)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["rates"][1]["val"] is None
    assert plain["splits"][0]["points"][0]["far_reached"] <= 0.1


def test_intervals_of_so_many_pairs_that_only_the_closest_are_kept(monkeypatch):
    points, labels = faces(40)
    every = holdout_intervals(points, labels, [0.02], splits=1)
    monkeypatch.setattr(holdout_module, "pair_distances", partial(pair_distances, all_kept=0))
    np.testing.assert_array_equal(holdout_intervals(points, labels, [0.02], splits=1).replicates, every.replicates)


@pytest.mark.parametrize("splits", [1, 5])
def test_what_the_mean_threshold_accepts_is_counted(splits, monkeypatch):
    points, labels = faces(40)
    (rate,) = holdout(points, labels, [0.05], splits).rates
    accepted = different = 0
    for left, right in holdout_module._dealt(points, labels, splits, 0, 1e-3)[2]:
        distances = np.sum((points[left].astype(np.float64)[:, None] - points[right]) ** 2, axis=2)
        others = distances[labels[left][:, None] != labels[right]]
        accepted += int(np.sum(others <= rate.threshold + 1e-6))
        different += len(others)
    assert rate.far_at_threshold == pytest.approx(accepted / different, abs=1e-12)
    assert (rate.far_at_threshold == rate.far_reached) == (splits == 1)
    # Of many pairs only the closest are kept: with a low rate, three times as many as it asks for.
    monkeypatch.setattr(holdout_module, "pair_distances", partial(pair_distances, all_kept=0))
    assert holdout(points, labels, [0.05], splits).rates == (rate,)
    monkeypatch.setattr(holdout_module, "MOST", 0)
    assert holdout(points, labels, [0.05], splits).rates[0].far_at_threshold is None


def test_one_split_has_no_standard_error():
    table = format_holdout(holdout(*faces(3), fars=[0.5]))
    assert "% ± -" in table
    assert table.endswith("(one split)")


def test_collapsed_embeddings_measure_zero():
    points = np.zeros((40, 4), np.float32)
    points[:, 0] = 1
    result = holdout(points, np.arange(40) % 20, fars=[0.2])
    assert (result.rates[0].val, result.rates[0].threshold) == (0.0, None)
    assert "0.0% ± 0.0" in format_holdout(result)


def test_bad_input_is_refused_in_one_sentence():
    points, labels = faces(6)
    with pytest.raises(InputError, match="1 of 1 identities"):
        holdout(points, np.zeros_like(labels))
    with pytest.raises(InputError, match=r"0 of 36 identities"):
        holdout(points, np.arange(36))
    with pytest.raises(InputError, match="0 of 0 identities"):
        holdout(points[:0], labels[:0])
    with pytest.raises(InputError, match="cannot be evaluated"):
        holdout(points, labels[1:])
    with pytest.raises(InputError, match="0 splits"):
        holdout(points, labels, splits=0)
    for fars in ([], [0.0], [0.1, 2.0]):
        with pytest.raises(InputError, match="false accept rates"):
            holdout(points, labels, fars=fars)
    broken = points.copy()
    broken[7, 3] = np.nan
    with pytest.raises(InputError, match=r"face 7 is not finite \(1 of 36"):
        holdout(broken, labels)
    stretched = points.copy()
    stretched[9] *= 1.01
    with pytest.raises(InputError, match=r"face 9 has norm 1\.01"):
        holdout(stretched, labels)
    holdout(points * np.float32(1.0005), labels)
