"""Accuracy over folds: the threshold of each is chosen on the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.errors import InputError
from facenet_jax.evaluation.folds import accuracy_over_folds, best_threshold, format_folds

PAIRS = st.lists(st.tuples(st.integers(0, 16), st.booleans()), min_size=1, max_size=30)


@given(PAIRS)
def test_no_threshold_is_better_than_the_best(pairs):
    distances = np.array([d for d, _ in pairs], np.float32) / 4
    same = np.array([s for _, s in pairs])
    accuracy = np.mean((distances <= best_threshold(distances, same)) == same)
    assert accuracy == max(np.mean((distances <= t / 8) == same) for t in range(-1, 40))


def test_the_middle_of_the_best_stretch_is_taken():
    assert best_threshold(np.array([0.2, 1.0], np.float32), np.array([True, False])) == pytest.approx(0.6)


def test_each_fold_is_judged_by_the_threshold_of_the_others():
    rng = np.random.default_rng(2)
    same = rng.random(200) < 0.5
    distances = np.where(same, rng.normal(0.8, 0.3, 200), rng.normal(1.6, 0.3, 200)).astype(np.float32)
    fold = np.repeat(np.arange(10), 20)
    result = accuracy_over_folds(distances, same, fold)
    for k in range(10):
        threshold = best_threshold(distances[fold != k], same[fold != k])
        assert result.thresholds[k] == threshold
        assert result.accuracies[k] == np.mean((distances[fold == k] <= threshold) == same[fold == k])
    assert result.accuracy == pytest.approx(np.mean(result.accuracies))
    assert result.standard_error == pytest.approx(np.std(result.accuracies, ddof=1) / np.sqrt(10))
    assert result.correct.mean() == pytest.approx(result.accuracy)
    assert f"{100 * result.accuracy:.2f}% ± {100 * result.standard_error:.2f} over 10 folds" in format_folds(result)


def test_bad_input_is_refused_in_one_sentence():
    with pytest.raises(InputError, match="finite distances"):
        best_threshold(np.array([np.nan], np.float32), np.array([True]))
    with pytest.raises(InputError, match="at least one pair"):
        best_threshold(np.zeros(0, np.float32), np.zeros(0, bool))
    with pytest.raises(InputError, match="1 folds with pairs"):
        accuracy_over_folds(np.ones(3, np.float32), np.ones(3, bool), np.zeros(3, np.int64))
    with pytest.raises(InputError, match="2 folds with pairs"):
        accuracy_over_folds(np.ones(2, np.float32), np.ones(2, bool), np.array([0, 2]))
