"""The benchmarks of audits and of grouping: planted errors are found and counted, every way of grouping runs."""

import numpy as np
import pytest

from benchmarks.audit import SHARE, best, made_up, merged_found, plant, rates, split_found, wrong_found


def test_planted_errors_are_found_and_counted():
    points, identity = made_up()
    order, labels, planted = plant(identity, seed=3)
    assert sorted(order.tolist()) == list(range(len(identity)))
    assert np.array_equal(labels, np.sort(labels))
    assert np.array_equal(planted, labels != identity[order])
    assert planted.sum() == round(SHARE * len(identity))
    grid = np.array([0.0, 0.5, 100.0])
    by_seed = [wrong_found((points, identity), seed, grid) for seed in range(2)]
    found = rates([of[1] for of in by_seed])
    assert found["precision"][0] > 0.98
    assert found["recall"][0] > 0.98
    assert rates([(8, 6, 10), (4, 4, 10)]) == {
        "precision": pytest.approx([0.875, 0.125]),
        "recall": pytest.approx([0.5, 0.1]),
    }
    assert [of[2][0] for of in by_seed] == [0, 0]
    assert best([[(10, 5, 10), (5, 5, 10)], [(10, 6, 10), (6, 6, 10)]]) == 0.05
    for look in (split_found, merged_found):
        listed, hit, planted_pairs = look((points, identity), 0)
        assert hit == listed == planted_pairs > 10


def test_every_way_of_grouping():
    pytest.importorskip("sklearn")
    from benchmarks.grouping import WAYS

    points = np.repeat(np.eye(8, dtype=np.float32), 6, axis=0)
    noisy = points + 0.05 * np.random.default_rng(0).normal(size=points.shape)
    noisy = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    for way, (parameters, begin) in WAYS.items():
        found = begin(noisy)(parameters[0])
        assert len(set(zip(found.tolist(), np.repeat(np.arange(8), 6).tolist(), strict=True))) == 8, way
        assert len(set(found.tolist())) == 8, way
