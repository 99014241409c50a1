"""Which faces are in a batch: quotas, epochs, mixtures and random negatives."""

import itertools
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.errors import InputError
from facenet_jax.input.plan import BatchPlan, DatasetShare


def make_index(counts) -> IdentityIndex:
    return IdentityIndex(
        [str(i) for i in range(len(counts))], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    )


@st.composite
def plans(draw) -> tuple[BatchPlan, dict]:
    counts = draw(st.lists(st.integers(1, 30), min_size=2, max_size=25))
    quota = draw(st.integers(2, 12))
    fewest = draw(st.integers(2, 6))
    given_faces = sum(min(n, quota) for n in counts if n >= fewest)
    assume(given_faces >= 3)
    anchors = draw(st.integers(2, given_faces))
    negatives = draw(st.integers(0, sum(counts) - anchors))
    assume(anchors + negatives >= 4)
    values = {"size": anchors + negatives, "faces_per_identity": quota, "random_negatives": negatives}
    values["min_faces_per_identity"] = fewest
    values["seed"] = draw(st.integers(-(2**63), 2**63 - 1))
    return BatchPlan(make_index(counts), **values), {"counts": counts, **values}


@given(plans(), st.integers(0, 10_000))
def test_a_batch_has_distinct_faces_with_their_labels_within_the_quota(planned, step):
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
        assert values["counts"][identity] >= values["min_faces_per_identity"]
        if 0 < place < len(together) - 1:  # the first and the last may be cut by the batch's ends
            assert np.count_nonzero(anchors == identity) == c
        assert np.count_nonzero(anchors == identity) <= c


@given(plans(), st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_a_batch_does_not_depend_on_those_before(planned, steps):
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
def test_an_epoch_visits_each_identity_once_except_for_its_tail(planned, epoch):
    plan, values = planned
    anchors = values["size"] - values["random_negatives"]
    sequence = np.concatenate(
        [plan.batch(epoch * plan.batches_per_epoch + b).labels[:anchors] for b in range(plan.batches_per_epoch)]
    )
    visited = Counter(sequence.tolist())
    fewest = values["min_faces_per_identity"]
    due = {i: min(n, values["faces_per_identity"]) for i, n in enumerate(values["counts"]) if n >= fewest}
    missing = sum(due.values()) - len(sequence)
    assert 0 <= missing < anchors
    assert all(visited[i] <= due[i] for i in visited)
    short = [i for i in due if visited[i] < due[i]]
    assert sum(due[i] - visited[i] for i in short) == missing
    assert all(visited[i] == 0 for i in short if i != sequence[-1])


def visits_of_faces(counts: list[int], size: int, epochs: int) -> tuple[list[np.ndarray], float]:
    """How often each face of each identity is visited, and the share of an epoch that is not dropped."""
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
            # A face loses a binomial number of visits, whose standard deviation is at most this.
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
    # A sum of Bernoulli draws with these chances; sampling without replacement only makes it narrower.
    z = (drawn - expected) / np.sqrt(expected)
    assert np.abs(z).max() < 4.5
    assert 0.5 < np.mean(z**2) < 1.3


def test_a_batch_may_need_every_face():
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


@st.composite
def mixtures(draw) -> tuple[BatchPlan, dict]:
    datasets = draw(st.lists(st.lists(st.integers(1, 30), min_size=2, max_size=12), min_size=2, max_size=3))
    weights = draw(st.lists(st.sampled_from([1, 2, 0.3, 5]), min_size=len(datasets), max_size=len(datasets)))
    quota = draw(st.integers(2, 8))
    anchors = draw(st.integers(4, 60))
    negatives = draw(st.integers(0, 20))
    counts = [n for dataset in datasets for n in dataset]
    assume(sum(counts) >= anchors + negatives)
    for dataset, weight in zip(datasets, weights, strict=True):
        given_faces = sum(min(n, quota) for n in dataset if n >= 2)
        assume(2 <= weight / sum(weights) * anchors <= given_faces - 2)
    ends = np.cumsum([0] + [len(dataset) for dataset in datasets])
    parts = [
        DatasetShare(np.arange(*borders), weight, "a dataset")
        for borders, weight in zip(itertools.pairwise(ends.tolist()), weights, strict=True)
    ]
    values = {"size": anchors + negatives, "faces_per_identity": quota, "random_negatives": negatives}
    values |= {"seed": draw(st.integers(0, 9))}
    return BatchPlan(make_index(counts), parts, **values), {"counts": counts, "parts": parts, **values}


@given(mixtures(), st.integers(0, 100))
def test_a_mixture_has_distinct_faces_within_the_quota_and_holds_the_weights_at_every_step(planned, first):
    plan, values = planned
    index, parts = make_index(values.pop("counts")), values.pop("parts")
    anchors = values["size"] - values["random_negatives"]
    taken = np.zeros(len(parts))
    for step in range(first + 5):
        batch = plan.batch(step)
        visits = batch.labels[:anchors]
        taken += [np.isin(visits, part.identities).sum() for part in parts]
        shares = np.array([part.weight for part in parts]) / sum(part.weight for part in parts)
        assert np.abs(taken - shares * anchors * (step + 1)).max() < 1.001
        if step < first:
            continue
        assert len(set(batch.records)) == values["size"]
        np.testing.assert_array_equal(batch.labels, index.identity_of(batch.records))
        assert max(Counter(visits.tolist()).values()) <= values["faces_per_identity"]
        fresh = BatchPlan(index, parts, **values).batch(step)
        np.testing.assert_array_equal(fresh.records, batch.records)


def test_the_faces_of_each_dataset_of_a_mixture_are_visited_equally_often():
    datasets = [[2, 3, 5, 8, 13, 21, 34], [4, 4, 6, 30, 1, 9] * 3]
    counts = datasets[0] + datasets[1]
    parts = [DatasetShare(np.arange(7), 1, "one"), DatasetShare(np.arange(7, 25), 2.5, "other")]
    plan = BatchPlan(make_index(counts), parts, size=30, faces_per_identity=8, random_negatives=0, seed=1)
    steps = 3000
    seen = np.bincount(np.concatenate([plan.batch(step).records for step in range(steps)]), minlength=sum(counts))
    identities = np.array([faces.sum() for faces in np.split(seen, np.cumsum(counts)[:-1])])
    for part, share in zip(parts, (1 / 3.5, 2.5 / 3.5), strict=True):
        of_part = [counts[i] for i in part.identities]
        given_faces = sum(min(n, 8) for n in of_part if n > 1)
        epochs = steps * 30 * share / given_faces
        assert abs(identities[part.identities].sum() - steps * 30 * share) < 1
        for i in part.identities:
            if counts[i] > 1:
                # Each is dropped with an epoch's tail by chance.
                assert abs(identities[i] / min(counts[i], 8) - epochs) < 4.5 * np.sqrt(epochs)
    for n, faces in zip(counts, np.split(seen, np.cumsum(counts)[:-1]), strict=True):
        if n > 1:
            assert faces.max() - faces.min() < 4.5 * np.sqrt(2 * faces.mean())


def test_random_negatives_of_a_mixture_hold_the_weights_and_are_uniform_in_each_dataset():
    counts = [10] * 20 + [2] * 300
    parts = [DatasetShare(np.arange(20), 1, "few"), DatasetShare(np.arange(20, 320), 3, "many")]
    plan = BatchPlan(make_index(counts), parts, size=40, faces_per_identity=4, random_negatives=20, seed=2)
    steps = 2000
    seen = np.zeros(sum(counts))
    for step in range(steps):
        seen[plan.batch(step).records[20:]] += 1
    for faces, share in ((seen[:200], 0.25), (seen[200:], 0.75)):
        # Faces already in the batch are skipped: at most 5 of 200 and 15 of 600 faces, the same share of both.
        assert abs(faces.sum() - 20 * steps * share) < 4.5 * np.sqrt(20 * steps * share * (1 - share))
        z = (faces - faces.mean()) / np.sqrt(faces.mean())
        assert np.abs(z).max() < 4.5


def test_identities_with_too_few_faces_give_only_random_negatives():
    index = make_index([9, 4, 12, 1, 3])
    plan = BatchPlan(index, size=16, faces_per_identity=6, min_faces_per_identity=5, random_negatives=6)
    batches = [plan.batch(step).labels for step in range(200)]
    assert set(np.concatenate([labels[:10] for labels in batches]).tolist()) == {0, 2}
    assert set(np.concatenate([labels[10:] for labels in batches]).tolist()) == {0, 1, 2, 3, 4}


PINNED = [
    [45, 43, 42, 46, 44, 10, 9, 3, 8, 56, 59, 11],
    [44, 43, 45, 42, 51, 53, 49, 55, 47, 8, 31, 2],
    [45, 42, 43, 44, 46, 60, 51, 52, 48, 38, 19, 55],
]


PINNED_MIXTURE = [
    [45, 43, 42, 46, 44, 77, 70, 80, 83, 90, 33, 55],
    [46, 42, 43, 45, 44, 9, 90, 91, 50, 6, 70, 2],
    [28, 36, 16, 17, 33, 90, 89, 91, 63, 30, 15, 42],
]


def test_the_plan_is_pinned():
    # A run that is resumed after an upgrade must get the same batches: these numbers never change.
    plan = BatchPlan(make_index([9, 2, 1, 30, 5, 14]), size=12, faces_per_identity=6, random_negatives=3, seed=42)
    assert [plan.batch(step).records.tolist() for step in (0, 7, 1000)] == PINNED
    parts = [DatasetShare(np.arange(5), 1, "one"), DatasetShare(np.arange(5, 9), 0.6, "other")]
    values = {"size": 12, "faces_per_identity": 6, "random_negatives": 3, "seed": 42}
    plan = BatchPlan(make_index([9, 2, 1, 30, 5, 14, 8, 20, 3]), parts, **values)
    assert [plan.batch(step).records.tolist() for step in (0, 7, 1000)] == PINNED_MIXTURE


@pytest.mark.parametrize(
    ("counts", "values", "words"),
    [
        ([5, 5], {"size": 3}, "batch.size"),
        ([5, 5], {"size": 8, "faces_per_identity": 1}, "batch.faces_per_identity"),
        ([5, 5], {"size": 8, "random_negatives": 8}, "batch.random_negatives"),
        ([5, 5], {"size": 8, "random_negatives": -1}, "batch.random_negatives"),
        ([1] * 20, {"size": 8, "random_negatives": 2}, "20 training identities has 2 faces"),
        ([4] * 9, {"size": 8, "random_negatives": 2, "min_faces_per_identity": 5}, "has 5 faces .*min_faces_per"),
        ([9] * 9, {"size": 8, "min_faces_per_identity": 1}, "batch.min_faces_per_identity is 1"),
        ([5, 5], {"size": 12, "random_negatives": 2}, "10 faces.*lower batch.size"),
        ([2, 2, 1, 1, 1, 1, 1], {"size": 8, "random_negatives": 2}, "give 4 faces .* takes 6 .*lower batch.size"),
    ],
)
def test_impossible_plans_are_refused(counts, values, words):
    with pytest.raises(InputError, match=words):
        BatchPlan(make_index(counts), **values)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ((1, 0), "weight in data.mixture is not above 0"),
        ((1, -1), "weight in data.mixture is not above 0"),
        ((1, 100), "one has so small a weight .* fewer than two faces"),
        ((100, 30), "of one that are visited give 10 faces an epoch .* takes 12.31 of them"),
    ],
)
def test_impossible_mixtures_are_refused(weights, words):
    parts = [DatasetShare(np.arange(2), weights[0], "one"), DatasetShare(np.arange(2, 22), weights[1], "other")]
    with pytest.raises(InputError, match=words):
        BatchPlan(make_index([5] * 22), parts, size=20, random_negatives=4)


@pytest.mark.parametrize(
    ("counts", "quota", "negatives", "alone"),
    [([6, 6, 6], 6, 0, True), ([10, 1, 1], 6, 0, True), ([10, 1, 1], 4, 2, False), ([6, 6, 3], 6, 0, False)],
)
def test_batches_of_a_single_person_are_recognised(counts, quota, negatives, alone):
    plan = BatchPlan(make_index(counts), size=6, faces_per_identity=quota, random_negatives=negatives)
    assert plan.one_person == alone == all(len(set(plan.batch(step).labels)) == 1 for step in range(20))
