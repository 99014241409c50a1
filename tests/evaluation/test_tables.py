"""Tables of protocols with few faces, which resolve few rates."""

import pytest

from evaluating import album
from facenet_jax.evaluation.holdout import format_evaluation, holdout, resolved_fars
from facenet_jax.evaluation.pair_metrics import format_rates, metrics_of_all_pairs
from facenet_jax.evaluation.pair_metrics import resolved_fars as resolved_fars_of_all_pairs
from facenet_jax.evaluation.protocols.compact import _format_errors
from facenet_jax.evaluation.protocols.robustness import _format_quality
from facenet_jax.evaluation.verification import pairs_needed, smallest_far, with_smallest


@pytest.mark.parametrize(("pairs", "far"), [(1, 1.0), (3, 0.34), (28, 0.036), (420, 0.0024), (1000, 0.001), (7, 0.15)])
def test_the_smallest_rate_that_pairs_resolve_has_two_digits(pairs, far):
    assert smallest_far(pairs) == far
    assert pairs_needed(far) <= pairs
    assert with_smallest((0.5, 0.0001), pairs) == ((0.5, 0.0001) if far == 0.5 else (0.5, 0.0001, far))
    assert with_smallest((1.0,), pairs) == (1.0,)


@pytest.mark.parametrize("pairs", [2, 9, 10, 11, 99, 100, 101, 999, 12_345, 10**6, 10**6 + 1])
def test_a_smaller_rate_is_not_resolved(pairs):
    far = smallest_far(pairs)
    assert pairs_needed(far) <= pairs
    assert pairs_needed(0.9 * far) > pairs


def test_people_too_few_for_a_rate_give_the_smallest_that_they_resolve():
    points, labels = album(6, 7)
    fars = resolved_fars(labels, (0.01, 0.001))
    assert fars == (0.01, 0.001, 0.0028)  # six people in one split: 24 faces against 18, 72 pairs of them the same
    result = holdout(points, labels, fars)
    assert [rate.val is None for rate in result.rates] == [False, True, False]
    table = format_evaluation(result)
    assert "(the smallest that 360 different pairs resolve) (one split)" in table
    assert "area under the ROC curve 0." in table
    assert "means over splits" not in table
    assert resolved_fars(labels, (0.5, 0.01)) == (0.5, 0.01)
    assert "area" not in format_evaluation(holdout(points, labels, (0.5, 0.01)))
    many = album(10, 7)  # two splits, of which the one with fewer pairs decides
    two = holdout(*many, resolved_fars(many[1], (1e-5,)))
    assert two.rates[-1].far == smallest_far(min(split.different_pairs for split in two.splits))
    assert two.rates[-1].val is not None


def test_all_pairs_of_few_photographs_give_it_too():
    points, labels = album(3, 4)
    fars = resolved_fars_of_all_pairs(labels, (0.01, 0.001))
    assert fars == (0.01, 0.001, 0.021)
    metrics = metrics_of_all_pairs(points, labels, fars)
    assert metrics.different_pairs == 48
    assert metrics.points[-1].val is not None
    assert metrics.over_identities[:2] == (None, None)
    assert metrics.over_identities[2] is not None
    assert "(the smallest that 48 different pairs resolve)" in format_rates(metrics)


def test_what_a_rate_needs_is_printed_apart_from_the_papers():
    row = {"val": None, "pairs_needed": 1000, "different_pairs": 90, "paper": 0.673}
    resolved = {"val": 0.5, "paper": 0.673}
    table = _format_quality({"jpeg_quality": {10: row, 20: resolved}, "image_pixels": {}}, 0.001)
    assert "has 90 (67.3%)" in table
    assert "50.0%     (67.3%)" in table


def test_an_error_without_a_threshold_is_put_in_words():
    errors = {"step": 0.1, "clipped": 0, "coordinates": 10, "rounding": 0.1, "at_most": {}, "seen": 0.01}
    assert "no threshold was resolved to bound an error at; the largest error seen is 0.0100" in _format_errors(errors)
    said = _format_errors(errors | {"at_most": {"1.0000": 0.02}})
    assert "a squared distance is off by at most 0.0200 at a squared distance of 1.0000; the largest" in said
