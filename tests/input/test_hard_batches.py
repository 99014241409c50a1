"""Batches from a table of hard faces depend only on seed, step and table."""

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.input.hard_batches import HardTable, MixedPlan, TripletPlan, subset
from facenet_jax.input.plan import BatchPlan

STEP = 7


def an_index(counts):
    return IdentityIndex([str(i) for i in range(len(counts))], np.concatenate([[0], np.cumsum(counts)]))


def a_table(index, rng, positives=1, negatives=3, missing=0.2):
    """A table with every face as an anchor, random positives and negatives, and some empty places."""
    anchors = np.arange(index.records)
    owners = index.identity_of(anchors)

    def draw(allowed, count):
        found = np.full((len(anchors), count), -1, np.int64)
        for anchor in anchors:
            rows = rng.permutation(np.flatnonzero(allowed(anchor)))[:count]
            found[anchor, : len(rows)] = np.where(rng.random(len(rows)) < missing, -1, rows)
        return found

    return HardTable(
        STEP,
        anchors,
        draw(lambda a: (owners == owners[a]) & (anchors != a), positives),
        draw(lambda a: owners != owners[a], negatives),
    )


histograms = st.lists(st.integers(1, 9), min_size=1, max_size=30)


@given(counts=histograms, faces=st.integers(1, 60), seed=st.integers(0, 99))
def test_a_subset_is_what_the_next_batches_visit(counts, faces, seed):
    index = an_index([9, 9, *counts])
    plan = BatchPlan(index, size=10, faces_per_identity=4, random_negatives=2, seed=seed)
    records = subset(plan, faces, STEP)
    assert (np.diff(records) > 0).all()
    assert (index.counts[index.identity_of(records)] >= 2).all()
    batches = [plan.batch(STEP + number).records[:8] for number in range(plan.batches_per_epoch)]
    needed = next((k for k in range(1, len(batches)) if len(np.unique(batches[:k])) >= faces), len(batches))
    np.testing.assert_array_equal(records, np.unique(batches[:needed]))


def test_another_step_or_seed_has_another_subset():
    plans = [BatchPlan(an_index([4] * 50), size=8, random_negatives=0, faces_per_identity=4, seed=s) for s in (0, 1)]
    subsets = [subset(plan, 40, step) for plan, step in ((plans[0], 5), (plans[0], 10), (plans[1], 5))]
    assert len({tuple(records) for records in subsets}) == 3


@given(counts=st.lists(st.integers(2, 9), min_size=8, max_size=30), seed=st.integers(0, 99))
def test_mixed_batches_hold_the_tables_groups_and_no_face_twice(counts, seed):
    index = an_index(counts)
    table = a_table(index, np.random.default_rng(seed))
    online = BatchPlan(index, size=8, faces_per_identity=2, random_negatives=2, seed=seed)
    plan = MixedPlan(online, table, 6, index, seed)
    groups = np.concatenate([table.anchors[:, None], table.positives, table.negatives], axis=1)
    for step in range(STEP, STEP + 5):
        batch = plan.batch(step)
        assert len(set(batch.records.tolist())) == len(batch.records)
        np.testing.assert_array_equal(batch.records[:8], online.batch(step).records)
        np.testing.assert_array_equal(batch.labels, index.identity_of(batch.records))
        hard = batch.records[8:]
        assert len(hard) == min(6, index.records - 8)
        taken = set(batch.records.tolist())
        # The faces are those of whole groups in turn; only the last group may be cut.
        assert sum(set(group[group >= 0].tolist()) <= taken for group in groups) >= 1


def test_all_anchors_come_equally_often():
    index = an_index([6] * 30)
    table = a_table(index, np.random.default_rng(0), missing=0)
    online = BatchPlan(index, size=8, faces_per_identity=4, random_negatives=0, seed=0)
    plan = MixedPlan(online, table, 10, index, 0)  # two groups of five in a batch
    anchors = [plan.batch(STEP + step).records[8] for step in range(90)]  # the first of each batch, half of all
    assert len(set(anchors)) >= 85


@given(counts=st.lists(st.integers(2, 6), min_size=3, max_size=12), size=st.integers(3, 14), seed=st.integers(0, 99))
def test_a_pass_of_triplets_takes_each_once(counts, size, seed):
    index = an_index(counts)
    table = a_table(index, np.random.default_rng(seed), positives=2)
    plan = TripletPlan(table, size, index, seed)
    wanted = sorted(
        (int(a), int(p), int(n))
        for a, ps, ns in zip(table.anchors, table.positives, table.negatives, strict=True)
        for p in ps[ps >= 0]
        for n in ns[ns >= 0]
    )
    got = []
    step = STEP
    while len(got) < len(wanted):
        batch = plan.batch(step)
        assert len(batch.records) == size // 3 * 3
        np.testing.assert_array_equal(batch.labels, index.identity_of(batch.records))
        got += [tuple(triplet) for triplet in batch.records.reshape(-1, 3).tolist()]
        step += 1
    assert sorted(got[: len(wanted)]) == wanted


def test_plans_are_functions_of_seed_step_and_table():
    index = an_index([5] * 20)
    table = a_table(index, np.random.default_rng(0))
    online = BatchPlan(index, size=8, faces_per_identity=4, random_negatives=0, seed=0)
    for plan in (MixedPlan(online, table, 10, index, 0), TripletPlan(table, 12, index, 0)):
        copy = pickle.loads(pickle.dumps(plan))
        for step in (STEP + 40, STEP, STEP + 3):  # in any order
            np.testing.assert_array_equal(copy.batch(step).records, plan.batch(step).records)
