"""Many names in a file that is mapped into memory."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.datasets.names import Names, raw, write_names

# Anything a file system can call a file, bytes that are not UTF-8 included.
NAME = st.binary(max_size=20).map(lambda name: name.decode("utf-8", "surrogateescape"))


@given(st.lists(NAME, max_size=30))
def test_names_are_read_back(tmp_path_factory, names):
    stem = tmp_path_factory.mktemp("names") / "names"
    write_names(stem, iter(names), len(names))
    held = Names(stem)
    assert len(held) == len(names)
    assert list(held) == names
    assert [held[i] for i in range(-len(names), len(names))] == names + names
    assert held[1:5:2] == names[1:5:2]
    assert list(pickle.loads(pickle.dumps(held))) == names
    with pytest.raises(IndexError):
        held[len(names)]


def test_only_the_path_is_pickled(tmp_path):
    write_names(tmp_path / "names", (f"person {i}" for i in range(100_000)), 100_000)
    held = Names(tmp_path / "names")
    assert len(pickle.dumps(held)) < 500
    assert held[99_999] == "person 99999"
    assert sum(1 for _ in held) == 100_000


def test_mismatched_files_are_refused(tmp_path):
    write_names(tmp_path / "a", ["one", "two"], 2)
    (tmp_path / "a.txt").write_bytes(raw("onetw"))
    with pytest.raises(ValueError, match="has 5 bytes where"):
        Names(tmp_path / "a")
    with pytest.raises(ValueError, match="lacks 1 rows"):
        write_names(tmp_path / "b", ["one"], 2)
