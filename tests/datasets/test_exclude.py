"""A source without some of its faces, and the lists that name them."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.datasets.drawn import DrawnFaces
from facenet_jax.datasets.exclude import WithoutFaces, find_named, read_list
from facenet_jax.datasets.mixture import MixedSource
from facenet_jax.datasets.open import open_listed
from facenet_jax.errors import InputError


@given(st.sets(st.integers(0, 19)))
def test_remaining_faces_keep_their_identity_and_pixels(gone):
    whole = DrawnFaces(3, 5, 4)
    rest = WithoutFaces(whole, np.array(sorted(gone), np.int64))
    stay = [record for record in range(20) if record not in gone]
    assert rest.index.counts.tolist() == [sum(one // 4 == identity for one in stay) for identity in range(5)]
    assert rest.original(np.arange(len(stay))).tolist() == stay
    assert [rest.describe(record) for record in range(len(stay))] == [whole.describe(record) for record in stay]
    assert list(rest.places()) == [place for one, place in enumerate(whole.places()) if one not in gone]
    assert rest.index.identity_of(np.arange(len(stay))).tolist() == [record // 4 for record in stay]
    if stay:
        last = pickle.loads(pickle.dumps(rest)).load(len(stay) - 1, (16, 16))
        np.testing.assert_array_equal(last, whole.load(stay[-1], (16, 16)))
    assert rest.digest != WithoutFaces(whole, np.array(sorted({*gone} ^ {7}), np.int64)).digest


def test_lines_name_identities_and_faces_of_every_source():
    mixed = MixedSource([DrawnFaces(0, 2, 3), DrawnFaces(0, 3, 2)])
    named = find_named(mixed, {"drawn-0000001", "drawn-0000002/0001", "drawn-0000000/0002", "b", "a"})
    assert named.identities.tolist() == [1, 3]
    assert named.records.tolist() == [2, 11]
    assert named.unknown == ["a", "b"]
    assert find_named(mixed, {"drawn-0000002"}).unknown == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_list_in_another_encoding_is_refused(tmp_path, encoding):
    (tmp_path / "list.txt").write_bytes("drawn-0000001\n".encode(encoding))
    with pytest.raises(InputError, match=r"--exclude=.*list\.txt is not a text file in UTF-8"):
        read_list(tmp_path / "list.txt", "--exclude")
    (tmp_path / "list.csv").write_bytes("path,identity\na.png,a\n".encode(encoding))
    with pytest.raises(InputError, match=r"list\.csv is not a text file in UTF-8"):
        open_listed(tmp_path / "list.csv")


def test_bytes_that_are_not_utf8_are_refused():
    with pytest.raises(InputError, match=r"is not UTF-8 and names nothing"):
        find_named(DrawnFaces(0, 2, 3), {"Jos\udce9"})


@pytest.mark.parametrize(
    "line",
    [
        *("DRAWN-0000001", "drawn-0000001 ", "drawn-0000001/*", "faces/drawn-0000001", "'drawn-0000001'"),
        *("drawn-0000001\\0002", "Drawn-0000001/0002", "./drawn-0000001/0002", '"drawn-0000001/0002"'),
        *("faces/drawn-0000001/0002", "/a/faces/drawn-0000001/0002", "drawn-0000001/0002\t0.9"),
        *("faces/drawn-0000001/0002,wrong", "\u200bdrawn-0000001/0002", "drawn-0000001/0002\u00a0"),
    ],
)
def test_a_line_that_is_nearly_a_name_or_a_place_is_refused(line):
    with pytest.raises(InputError, match=r"names nobody, and there is the (identity|face) 'drawn-0000001"):
        find_named(DrawnFaces(0, 2, 3), {line})


def test_lines_about_another_dataset_are_no_error():
    lines = {"drawn-0000009", "drawn-0000001/0009", "others/0002", "0002", "drawn-0000001/more/0002", "# a remark", "/"}
    assert find_named(DrawnFaces(0, 2, 3), lines).unknown == sorted(lines)


def test_a_list_keeps_its_first_line_and_bytes_that_are_not_utf8(tmp_path):
    (tmp_path / "list.txt").write_bytes("\ufeffGrüße\r\n\n".encode() + b"b\xff/1.png")
    assert read_list(tmp_path / "list.txt", "--exclude") == {"Grüße", "b\udcff/1.png"}
