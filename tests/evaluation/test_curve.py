"""ROC, area and equal error rate compared with scikit-learn, on random and on adversarial distances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluating import expanded
from facenet_jax.evaluation.counting import pair_distances
from facenet_jax.evaluation.verification import from_distances, roc

metrics = pytest.importorskip("sklearn.metrics")

# Short lists of few values: many ties, all equal, or only one pair.
DISTANCES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.25, 4.0, 5.0]), min_size=1, max_size=25)


def by_sklearn(same, different):
    truth = [1] * len(same) + [0] * len(different)
    far, val, _ = metrics.roc_curve(truth, [-d for d in [*same, *different]], drop_intermediate=False)
    return far, val, metrics.auc(far, val)


def equal_error_rate(far, val):
    """Where the line through the points (FAR, VAL) meets FAR = 1 - VAL."""
    for a in range(len(far) - 1):
        before, after = far[a] + val[a] - 1, far[a + 1] + val[a + 1] - 1
        if before < 0 <= after:
            return far[a] + (far[a + 1] - far[a]) * -before / (after - before)
    return far[0]


@given(DISTANCES, DISTANCES)
def test_area_rate_and_points_are_those_of_scikit_learn(same, different):
    curve = roc(from_distances(same, different))
    far, val, area = by_sklearn(same, different)
    assert curve.area == pytest.approx(area, abs=1e-12)
    assert curve.equal_error_rate == pytest.approx(equal_error_rate(far, val), abs=1e-12)
    expected = {*zip(far.tolist(), val.tolist(), strict=True)}
    assert {*zip(curve.far.tolist(), curve.val.tolist(), strict=True)} <= expected


def test_random_distances_and_what_the_histogram_adds():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(400, 16)).astype(np.float32)
    labels = rng.integers(0, 20, 400)
    points += 1.2 * rng.normal(size=(20, 16)).astype(np.float32)[labels]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    sets = points[:200], points[200:], labels[:200], labels[200:]
    whole, part = (roc(pair_distances(*sets, max_far=0.001, all_kept=k)) for k in (10**9, 0))
    assert (whole.exact, part.exact) == (True, False)
    pairs = pair_distances(*sets, max_far=1.0)
    far, val, area = by_sklearn(expanded(pairs.same).tolist(), expanded(pairs.different).tolist())
    assert whole.area == pytest.approx(area, abs=1e-12)
    assert whole.equal_error_rate == pytest.approx(equal_error_rate(far, val), abs=1e-12)
    assert part.area == pytest.approx(area, abs=1e-4)
    assert part.equal_error_rate == pytest.approx(whole.equal_error_rate, abs=2e-3)
