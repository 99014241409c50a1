import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.data.index import IdentityIndex, open_index, split_holdout, write_index
from facenet_jax.errors import InputError


def make_index(counts: list[int], names: list[str] | None = None) -> IdentityIndex:
    names = names or [hashlib.sha256(str(i).encode()).hexdigest() for i in range(len(counts))]
    return IdentityIndex(names, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.data())
def test_records_and_identities_are_each_others_inverse(counts, data):
    index = make_index(counts)
    chosen = np.array(data.draw(st.lists(st.sampled_from(range(len(counts))), unique=True)), np.int64)
    records = index.records_of(chosen)
    expected = [r for i in chosen for r in range(index.offsets[i], index.offsets[i + 1])]
    assert records.tolist() == expected
    assert index.identity_of(records).tolist() == [i for i in chosen for _ in range(counts[i])]


@given(
    st.lists(
        st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.integers(0, 300)))
    ).filter(lambda chunks: "".join(name for chunk in chunks for name, _ in chunk))
)
def test_a_written_index_is_opened_as_it_was(tmp_path_factory, chunks):
    folder = tmp_path_factory.mktemp("index")
    write_index(folder, [([name for name, _ in chunk], np.array([n for _, n in chunk], int)) for chunk in chunks])
    names, counts = zip(*(each for chunk in chunks for each in chunk), strict=True)
    index = open_index(folder)
    for opened in (index, pickle.loads(pickle.dumps(index))):
        assert list(opened.names) == list(names)
        assert opened.names[-1] == names[-1]
        assert list(opened.names[1:]) == list(names[1:])
        np.testing.assert_array_equal(opened.counts, counts)
        assert isinstance(opened.offsets, np.memmap)
    with pytest.raises(IndexError):
        index.names[len(names)]
    assert len(pickle.dumps(index)) < 500


def test_names_that_are_no_text_and_chunks_of_any_size(tmp_path):
    odd = b"no \xff text".decode(errors="surrogateescape")
    chunks = [(["a", odd], np.array([1, 2])), ([], np.array([], int)), (["c"] * 70_000, np.full(70_000, 3))]
    write_index(tmp_path, chunks)
    index = open_index(tmp_path)
    assert index.names[1] == odd
    assert index.records == 3 + 3 * 70_000
    for name, values in (("offsets", index.offsets), ("names", None), ("name_ends", None)):
        plain = np.load(tmp_path / f"{name}.npy")
        assert values is None or (plain == values).all()


def test_damaged_indices(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read .*prepare"):
        open_index(tmp_path)
    write_index(tmp_path, [(["a", "b"], np.array([2, 3]))])
    whole = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path, data in whole.items():
        path.write_bytes(data[:-1])
        with pytest.raises(InputError, match=r"cannot be read .*prepare"):
            open_index(tmp_path)
        np.save(path, np.arange(7, dtype=np.int64))
        with pytest.raises(InputError, match="do not belong together"):
            open_index(tmp_path)
        path.write_bytes(data)
    assert list(open_index(tmp_path).names) == ["a", "b"]


def test_an_index_whose_writing_was_cut_short_is_not_opened(tmp_path):
    def chunks():
        yield ["a"], np.array([2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_index(tmp_path, chunks())
    with pytest.raises(InputError):
        open_index(tmp_path)


def test_split_is_pinned():
    # A run that resumes after an upgrade must find the same identities held out.
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
    # An identity leaves only when a newcomer takes its place, which here about five do.
    assert len(set(before) & set(after)) >= 44
    # Their numbers do not matter, their names do.
    backwards = make_index([3] * 500, list(reversed(small.names)))
    assert {backwards.names[i] for i in split_holdout(backwards, 0.1)[1]} == {small.names[i] for i in before}


def test_another_seed_is_another_split():
    index = make_index([2] * 100)
    assert set(split_holdout(index, 0.2, 1)[1]) != set(split_holdout(index, 0.2, 2)[1])


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_impossible_shares(share):
    with pytest.raises(InputError, match="share"):
        split_holdout(make_index([2] * 5), share)
