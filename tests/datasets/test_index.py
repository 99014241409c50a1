"""The index of identities, and which of them are held out."""

import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.datasets.index import IdentityIndex, split_holdout
from facenet_jax.datasets.names import Names, write_names
from facenet_jax.errors import InputError
from facenet_jax.input.plan import BatchPlan


def make_index(counts: list[int], names: list[str] | None = None) -> IdentityIndex:
    names = names or [hashlib.sha256(str(i).encode()).hexdigest() for i in range(len(counts))]
    return IdentityIndex(names, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.data())
def test_records_of_identities_and_identities_of_records_are_inverse(counts, data):
    index = make_index(counts)
    chosen = np.array(data.draw(st.lists(st.sampled_from(range(len(counts))), unique=True)), np.int64)
    records = index.records_of(chosen)
    expected = [r for i in chosen for r in range(index.offsets[i], index.offsets[i + 1])]
    assert records.tolist() == expected
    assert index.identity_of(records).tolist() == [i for i in chosen for _ in range(counts[i])]


def test_a_memory_mapped_index_is_mapped_again_when_unpickled(tmp_path):
    plain = make_index([3, 1, 2] * 500)
    np.save(tmp_path / "offsets.npy", plain.offsets)
    write_names(tmp_path / "names", plain.names, len(plain.names))
    mapped = IdentityIndex(Names(tmp_path / "names"), np.load(tmp_path / "offsets.npy", mmap_mode="r"))
    pickled = pickle.dumps(mapped)
    assert len(pickled) < 1000 < len(pickle.dumps(plain))
    for index in (pickle.loads(pickled), pickle.loads(pickle.dumps(plain))):
        assert list(index.names) == list(plain.names)
        np.testing.assert_array_equal(index.offsets, plain.offsets)
        assert index.records_of(np.array([3, 1])).tolist() == [6, 7, 8, 3]
    plans = [BatchPlan(index, size=60, faces_per_identity=3, random_negatives=5) for index in (plain, mapped)]
    np.testing.assert_array_equal(*(plan.batch(77).records for plan in plans))


def test_split_is_pinned():
    # A run that is resumed after an upgrade must hold out the same identities.
    index = make_index([2, 1, 3] * 20)
    assert split_holdout(index, 0.1)[1].tolist() == [0, 27, 38, 57]
    assert split_holdout(index, 0.1, 7)[1].tolist() == [18, 33, 47, 59]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40), st.floats(0, 0.99), st.integers(0, 3))
def test_split_divides_the_identities_and_keeps_singles_for_training(counts, share, seed):
    index = make_index(counts)
    train, holdout = split_holdout(index, share, seed)
    assert sorted([*train, *holdout]) == list(range(len(counts)))
    assert all(counts[i] >= 2 for i in holdout)
    paired = sum(n >= 2 for n in counts)
    assert len(holdout) != 1
    if share > 0 and paired >= 3:
        assert len(holdout) == min(max(2, round(share * paired)), paired - 1)
    else:
        assert len(holdout) == 0


def test_split_hardly_changes_when_the_folder_grows():
    small, large = make_index([3] * 500), make_index([3] * 550)
    before, after = split_holdout(small, 0.1)[1], split_holdout(large, 0.1)[1]
    assert len(before) == 50
    assert len(after) == 55
    # An identity is replaced only by a new one, which happens here about five times.
    assert len(set(before) & set(after)) >= 44
    # Their names decide, not their numbers.
    backwards = make_index([3] * 500, list(reversed(small.names)))
    assert {backwards.names[i] for i in split_holdout(backwards, 0.1)[1]} == {small.names[i] for i in before}


def test_equal_names_are_held_out_together():
    names = [str(i % 50) for i in range(100)]
    for seed in range(20):
        held_out = [names[i] for i in split_holdout(make_index([2] * 100, names), 0.13, seed)[1]]
        assert len(held_out) == 14
        assert len(set(held_out)) == 7


def test_another_seed_is_another_split():
    index = make_index([2] * 100)
    assert set(split_holdout(index, 0.2, 1)[1]) != set(split_holdout(index, 0.2, 2)[1])


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_impossible_shares(share):
    with pytest.raises(InputError, match="share"):
        split_holdout(make_index([2] * 5), share)
