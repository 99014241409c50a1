import itertools
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facenet_jax.data import hashing
from facenet_jax.data.index import IdentityIndex
from facenet_jax.data.plan import BatchPlan
from facenet_jax.data.visits import _FACES
from facenet_jax.errors import InputError


def make_index(counts) -> IdentityIndex:
    return IdentityIndex(
        [str(i) for i in range(len(counts))], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    )


@st.composite
def plans(draw) -> tuple[BatchPlan, dict]:
    counts = draw(st.lists(st.integers(1, 30), min_size=2, max_size=25))
    quota = draw(st.integers(2, 12))
    given_faces = sum(min(n, quota) for n in counts if n >= 2)
    assume(given_faces >= 3)
    anchors = draw(st.integers(2, given_faces))
    negatives = draw(st.integers(0, sum(counts) - anchors))
    assume(anchors + negatives >= 4)
    values = {"size": anchors + negatives, "faces_per_identity": quota, "random_negatives": negatives}
    values["seed"] = draw(st.integers(-(2**63), 2**63 - 1))
    return BatchPlan(make_index(counts), **values), {"counts": counts, **values}


@given(plans(), st.integers(0, 10_000))
def test_a_batch_has_distinct_faces_under_their_labels_within_the_quota(planned, step):
    plan, values = planned
    records, labels = plan.batch(step)
    assert records.shape == labels.shape == (values["size"],)
    assert records.dtype == np.int64
    assert labels.dtype == np.int32
    assert len(set(records)) == values["size"]
    np.testing.assert_array_equal(labels, make_index(values["counts"]).identity_of(records))
    anchors = labels[: values["size"] - values["random_negatives"]]
    together = [anchors[0], *(b for a, b in itertools.pairwise(anchors) if a != b)]
    assert len(together) == len(set(together))
    for place, identity in enumerate(together):
        c = min(values["counts"][identity], values["faces_per_identity"])
        if 0 < place < len(together) - 1:  # those at the ends may be cut by the border
            assert np.count_nonzero(anchors == identity) == c
        assert np.count_nonzero(anchors == identity) <= c


@given(plans(), st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_batches_do_not_depend_on_those_before(planned, steps):
    plan, values = planned
    index = make_index(values.pop("counts"))
    for step in steps:
        fresh = BatchPlan(index, **values)
        for one, other in zip(plan.batch(step), fresh.batch(step), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(plan)).batch(steps[0]).records, plan.batch(steps[0]).records
    )


@given(plans(), st.integers(0, 20))
def test_an_epoch_visits_each_identity_once_but_for_its_tail(planned, epoch):
    plan, values = planned
    anchors = values["size"] - values["random_negatives"]
    sequence = np.concatenate(
        [plan.batch(epoch * plan.batches_per_epoch + b).labels[:anchors] for b in range(plan.batches_per_epoch)]
    )
    visited = Counter(sequence.tolist())
    due = {i: min(n, values["faces_per_identity"]) for i, n in enumerate(values["counts"]) if n >= 2}
    missing = sum(due.values()) - len(sequence)
    assert 0 <= missing < anchors
    assert all(visited[i] <= due[i] for i in visited)
    short = [i for i in due if visited[i] < due[i]]
    assert sum(due[i] - visited[i] for i in short) == missing
    assert all(visited[i] == 0 for i in short if i != sequence[-1])


def reference_windows(n: int, c: int, orders: list[list[int]]) -> list[list[int]]:
    """The construction in the module's words: whole sequence, front to back."""
    sequence: list[int] = []
    previous: list[int] = []
    for k, order in enumerate(orders):
        order = list(order)
        r = k * n % c
        tail, head = previous[n - r :], (c - r if r else 0)
        spare = [place for place in range(head, n) if order[place] not in tail]
        for place in range(head):
            if order[place] in tail:
                other = spare.pop(0)
                order[place], order[other] = order[other], order[place]
        sequence += order
        previous = order
    return [sequence[v * c : v * c + c] for v in range(len(sequence) // c)]


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(0, 40), st.integers(0, 5))
def test_every_cycle_of_an_identity_has_each_face_once(quota, more, seed):
    # Two identities, so that every epoch visits the first one whole: its n faces, and one batch an epoch.
    n = quota + more
    c = quota
    plan = BatchPlan(make_index([n, n]), size=max(2 * c, 4), faces_per_identity=c, random_negatives=0, seed=seed)
    cycles = 2 * c + 1
    visits = [plan.batch(step) for step in range(cycles * n // c)]
    for identity in (0, 1):
        windows = [batch.records[batch.labels == identity] - identity * n for batch in visits]
        assert all(len(set(window)) == c for window in windows)
        sequence = np.concatenate(windows)
        for k in range(len(sequence) // n):
            assert sorted(sequence[k * n : (k + 1) * n]) == list(range(n))
        orders = [hashing.permutation(n, seed, _FACES, identity, k).tolist() for k in range(cycles)]
        expected = reference_windows(n, c, orders)
        assert [window.tolist() for window in windows] == expected[: len(windows)]


def visits_of_faces(counts: list[int], size: int, epochs: int) -> tuple[list[np.ndarray], float]:
    """How often each face of each identity is met, and the share of an epoch that is not dropped."""
    plan = BatchPlan(make_index(counts), size=size, faces_per_identity=8, random_negatives=0, seed=3)
    records = np.concatenate([plan.batch(step).records for step in range(epochs * plan.batches_per_epoch)])
    seen = np.bincount(records, minlength=sum(counts))
    return np.split(seen, np.cumsum(counts)[:-1]), len(records) / epochs / sum(min(n, 8) for n in counts if n > 1)


def test_each_identity_and_each_face_is_visited_equally_often():
    counts = [2, 3, 5, 8, 13, 21, 34, 55, 1, 1] * 4
    faces, kept = visits_of_faces(counts, 40, 100)
    assert kept == 1
    for n, seen in zip(counts, faces, strict=True):
        assert seen.sum() == (100 * min(n, 8) if n > 1 else 0)
        assert seen.max() - seen.min() <= 1


def test_the_dropped_tail_hits_each_identity_and_each_face_equally_often():
    counts, epochs = [2, 3, 5, 8, 13, 21, 34, 55, 1, 1] * 4, 400
    faces, kept = visits_of_faces(counts, 36, epochs)
    assert kept == 0.9
    for n, seen in zip(counts, faces, strict=True):
        if n > 1:
            # A face loses up to a binomial number of visits, whose standard deviation is at most this.
            deviation = np.sqrt(epochs * kept * (1 - kept))
            assert abs(seen.sum() / min(n, 8) - epochs * kept) < 4.5 * deviation
            assert seen.max() - seen.min() < 4.5 * deviation


def test_epochs_have_different_orders_and_identities_different_batch_mates():
    plan = BatchPlan(make_index([4] * 50), size=20, faces_per_identity=4, random_negatives=0)
    assert plan.batches_per_epoch == 10
    mates = [frozenset(plan.batch(step).labels.tolist()) for step in range(100)]
    assert len(set(mates)) > 95


def test_random_negatives_are_uniform_over_the_faces_not_in_the_batch():
    counts = [30, 10, 1, 1, 1, 5, 2] * 3
    faces = sum(counts)
    plan = BatchPlan(make_index(counts), size=30, faces_per_identity=5, random_negatives=10, seed=8)
    steps = 4000
    drawn, expected = np.zeros(faces), np.zeros(faces)
    for step in range(steps):
        records = plan.batch(step).records
        drawn[records[20:]] += 1
        chance = np.full(faces, 10 / (faces - 20))
        chance[records[:20]] = 0
        expected += chance
    # A sum of steps of Bernoulli draws with these chances; sampling without replacement only narrows it.
    z = (drawn - expected) / np.sqrt(expected)
    assert np.abs(z).max() < 4.5
    assert 0.5 < np.mean(z**2) < 1.3


def test_every_face_can_be_needed():
    plan = BatchPlan(make_index([3, 3, 1, 1]), size=8, faces_per_identity=3, random_negatives=2)
    for step in range(5):
        assert sorted(plan.batch(step).records) == list(range(8))


def test_a_subset_of_the_identities():
    index = make_index([5, 7, 1, 9, 3])
    plan = BatchPlan(index, np.array([1, 2, 4]), size=8, faces_per_identity=4, random_negatives=3)
    allowed = index.records_of(np.array([1, 2, 4]))
    seen = np.concatenate([plan.batch(step).records for step in range(100)])
    assert set(seen) == set(allowed)
    for step in range(20):
        records, labels = plan.batch(step)
        np.testing.assert_array_equal(labels, index.identity_of(records))


def test_the_defaults_are_the_papers():
    plan = BatchPlan(make_index([60] * 100))
    labels = plan.batch(0).labels
    assert len(labels) == 1800
    assert sorted(Counter(labels[:1600].tolist()).values()) == [40] * 40


PINNED = [
    [45, 43, 42, 46, 44, 10, 9, 3, 8, 56, 59, 11],
    [44, 43, 45, 42, 54, 53, 49, 58, 60, 8, 31, 2],
    [45, 42, 43, 44, 46, 55, 60, 54, 49, 38, 19, 24],
]


def test_the_plan_is_pinned():
    # A run that resumes after an upgrade must meet the same batches: these numbers never change.
    plan = BatchPlan(make_index([9, 2, 1, 30, 5, 14]), size=12, faces_per_identity=6, random_negatives=3, seed=42)
    assert [plan.batch(step).records.tolist() for step in (0, 7, 1000)] == PINNED


@pytest.mark.parametrize(
    ("counts", "values", "words"),
    [
        ([5, 5], {"size": 3}, "batch.size"),
        ([5, 5], {"size": 8, "faces_per_identity": 1}, "batch.faces_per_identity"),
        ([5, 5], {"size": 8, "random_negatives": 8}, "batch.random_negatives"),
        ([5, 5], {"size": 8, "random_negatives": -1}, "batch.random_negatives"),
        ([1] * 20, {"size": 8, "random_negatives": 2}, "two faces"),
        ([5, 5], {"size": 12, "random_negatives": 2}, "10 faces.*lower batch.size"),
        ([2, 2, 1, 1, 1, 1, 1], {"size": 8, "random_negatives": 2}, "give 4 faces .* takes 6 .*lower batch.size"),
    ],
)
def test_impossible_plans(counts, values, words):
    with pytest.raises(InputError, match=words):
        BatchPlan(make_index(counts), **values)
