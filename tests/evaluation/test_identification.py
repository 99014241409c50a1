"""Identification compared with plain loops."""

import math

import numpy as np
import pytest

from evaluating import unit
from facenet_jax.errors import InputError
from facenet_jax.evaluation.protocols.identify import format_identification, identify


def faces(identities=20, per_identity=5, noise=0.7, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(identities), per_identity)
    labels = np.append(labels, [identities, identities + 1])  # two with one face
    points = rng.normal(size=(identities + 2, 8))[labels] + noise * rng.normal(size=(len(labels), 8))
    return unit(points), labels


def nearest(points, probe, exemplars):
    distances = [float(np.sum((points[probe].astype(np.float64) - points[e]) ** 2)) for e in exemplars]
    return min(zip(distances, exemplars, strict=True))


def test_rank_1_by_loops():
    points, labels = faces()
    exemplars = [int(np.flatnonzero(labels == i)[0]) for i in range(20)]
    probes = [i for i in range(len(labels)) if labels[i] < 20 and i not in exemplars]
    hits = [labels[nearest(points, i, exemplars)[1]] == labels[i] for i in probes]
    found = identify(points, labels)
    assert found.rank1 == pytest.approx(np.mean(hits))
    assert (found.probes, found.enrolled) == (80, 20)
    # The error of a ratio of sums over people, to first order.
    share = np.array([np.sum(np.array(hits)[4 * i : 4 * i + 4]) - 4 * found.rank1 for i in range(20)])
    assert found.standard_error == pytest.approx(np.sqrt(np.sum(share**2)) / 80, rel=0.1)
    assert f"± {100 * found.standard_error:.1f} over people, of 80 probes" in format_identification(found)


def test_probes_of_a_person_count_as_one_trial():
    # Two of ten people are never found, the others always: these are ten trials, not four hundred.
    centres = np.eye(16, dtype=np.float32)
    points, labels = np.repeat(centres[:10], 41, axis=0), np.repeat(np.arange(10), 41)
    points[[i for i in range(82) if i % 41]] = centres[9]
    found = identify(points, labels)
    assert found.rank1 == 0.8
    assert found.standard_error == pytest.approx(math.sqrt(0.8 * 0.2 / 10), rel=0.05)


def test_where_strangers_are_too_few_for_a_rate_the_smallest_that_they_resolve_follows():
    points, labels = faces()  # 52 strangers
    rates = identify(points, labels, (0.1, 0.01)).open_set
    assert [rate.false_alarm_rate for rate in rates] == [0.1, 0.01, 0.02]
    assert [rate.rate is None for rate in rates] == [False, True, False]
    assert "(the smallest that 52 probes of strangers resolve)" in format_identification(identify(points, labels))
    assert [rate.false_alarm_rate for rate in identify(points, labels, (0.2, 0.1)).open_set] == [0.2, 0.1]


def test_the_open_set_by_loops():
    points, labels = faces()
    found = identify(points, labels, (0.2, 0.05, 0.985, 0.001))
    assert found.open_enrolled == 10
    assert found.mated == 40
    assert found.strangers == len(labels) - 50
    # The result does not say who was enrolled: deal them again by the seed.
    from facenet_jax.evaluation.protocols.identify import _DEAL_ENROLLED
    from facenet_jax.runtime.hashing import permutation

    known = set(permutation(20, _DEAL_ENROLLED, 0)[:10].tolist())
    exemplars = [int(np.flatnonzero(labels == i)[0]) for i in sorted(known)]
    mated = [i for i in range(len(labels)) if labels[i] in known and i not in exemplars]
    alarms = sorted(nearest(points, i, exemplars)[0] for i in range(len(labels)) if labels[i] not in known)
    right = [d for i in mated for d, e in [nearest(points, i, exemplars)] if labels[e] == labels[i]]
    for rate in found.open_set[:3]:
        bound = alarms[math.floor(rate.false_alarm_rate * len(alarms) + 1e-9)]
        assert rate.rate == pytest.approx(sum(d < bound for d in right) / 40)
        assert rate.reached <= rate.false_alarm_rate
    assert (found.open_set[3].rate, found.open_set[3].strangers_needed) == (None, 1000)
    assert "needs 1,000 probes of strangers" in format_identification(found)


def test_identical_embeddings_identify_nobody():
    points, labels = faces()
    points[:] = np.eye(8, dtype=np.float32)[0]
    found = identify(points, labels, [0.5])
    assert (found.open_set[0].rate, found.open_set[0].threshold) == (0.0, None)


def test_too_few_people():
    points, labels = faces(1)
    with pytest.raises(InputError, match="1 of 3 identities have two faces"):
        identify(points, labels)
