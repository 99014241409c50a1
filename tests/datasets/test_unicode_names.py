"""A person's name is the same in either Unicode form, wherever it is typed or two lists are compared."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.curation.overlap import find_overlap, open_compared
from facenet_jax.datasets.exclude import RejectedFaces, find_named, read_list
from facenet_jax.datasets.folder import FolderSource
from facenet_jax.datasets.index import IdentityIndex, split_holdout
from facenet_jax.datasets.names import comparable
from facenet_jax.datasets.open import open_listed
from facenet_jax.embedders.table import FileOfEmbeddings
from facenet_jax.errors import InputError
from facenet_jax.evaluation.request import Request
from facenet_jax.images.decode import BadFace, Reason
from facenet_jax.recognition.index import PeopleIndex, Vectors
from facenet_jax.training.leakage import shared_names
from preparing import encoded, person

ONE, TWO = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))


@pytest.fixture
def folder(tmp_path):
    """A function that makes a folder of people with two faces each."""

    def make(root, *names):
        for number, name in enumerate(names):
            (tmp_path / root / name).mkdir(parents=True)
            for face in range(2):
                (tmp_path / root / name / f"{face}.png").write_bytes(encoded(person(number, face)))
        return tmp_path / root

    return make


@given(st.text(st.characters()))
def test_both_forms_of_any_name_are_equal(name):
    assert comparable(unicodedata.normalize("NFD", name)) == comparable(unicodedata.normalize("NFC", name))


@pytest.mark.parametrize(("stored", "typed"), [(ONE, TWO), (TWO, ONE)])
class TestEitherForm:
    def test_a_list_excludes_them(self, folder, tmp_path, stored, typed):
        source = FolderSource(folder("faces", "ada", stored, f"{stored}fa"))
        (tmp_path / "list").write_text(f"{typed}\n{typed}fa/1.png\n", encoding="utf-8")
        lines = read_list(tmp_path / "list", "--exclude")
        named = find_named(source, lines)
        assert ([source.index.names[one] for one in named.identities], named.unknown) == ([stored], [])
        assert [source.place(record) for record in named.records] == [f"{stored}fa/1.png"]
        kept = RejectedFaces(source, lines, "--exclude=list")
        reasons = []
        for place in kept.places():
            try:
                kept.reader.read(place)
            except BadFace as bad:
                reasons.append((place, bad.reason))
        gone = [f"{stored}/0.png", f"{stored}/1.png", f"{stored}fa/1.png"]
        assert reasons == [(place, Reason.EXCLUDED) for place in gone]

    def test_two_datasets_share_a_person(self, folder, stored, typed):
        one, other = folder("a", "ada", stored), folder("b", "bob", typed)
        assert find_overlap(open_compared(one), open_compared(other)).names == [stored]
        a, b = FolderSource(one), FolderSource(other)
        assert shared_names(a, np.arange(2), b) == 1
        assert Request([], trained_on={"run": frozenset({stored})}).known_names(["bob", typed]) == {typed}

    def test_the_same_people_are_held_out(self, stored, typed):
        for seed in range(8):
            splits = [
                split_holdout(IdentityIndex([*map(str, range(9)), name], np.arange(11) * 2), 0.4, seed)
                for name in (stored, typed)
            ]
            np.testing.assert_array_equal(splits[0][1], splits[1][1])

    def test_embeddings_are_found(self, tmp_path, stored, typed):
        names = np.array([f"{stored}/0.png", "ada/0.png"])
        np.savez(tmp_path / "points.npz", embeddings=np.eye(2, 4, dtype=np.float32), names=names)
        table = FileOfEmbeddings(tmp_path / "points.npz")
        np.testing.assert_array_equal(table.look_up([f"{typed}/0.png"]), np.eye(1, 4))
        assert table.names[0] == f"{stored}/0.png"

    def test_removing_a_person_removes_both_forms(self, stored, typed):
        pytest.importorskip("faiss")
        index = PeopleIndex("sface", None, "sface", "0", "none", Vectors(4))
        points, contents = np.eye(4, dtype=np.float32), [bytes(15) + bytes([number]) for number in range(4)]
        index.add(points[:2], [stored, "ada"], [f"{stored}/0.png", "ada/0.png"], contents[:2])
        index.add(points[2:3], [typed], [f"{typed}/0.png"], contents[2:3])
        assert index.people == [stored, "ada"]
        assert (comparable(typed), contents[0]) in index.known()
        assert index.remove([typed]) == 2
        assert (index.people, len(index.vectors)) == (["ada"], 1)

    def test_removing_from_an_index_that_holds_both_forms(self, stored, typed):
        pytest.importorskip("faiss")
        index = PeopleIndex("sface", None, "sface", "0", "none", Vectors(4), [stored, typed, "ada"])
        index.vectors.add(np.eye(3, 4, dtype=np.float32))
        index.person, index.files = np.arange(3), ["a", "b", "c"]
        index.contents = np.zeros((3, 16), np.uint8)
        assert index.remove([typed]) == 2
        assert index.people == ["ada"]


def test_two_identities_that_differ_only_in_bytes_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="two identities that are both called 'José'"):
        FolderSource(folder("faces", ONE, TWO))
    (tmp_path / "list.csv").write_text(f"path,identity\na.png,{ONE}\nb.png,{TWO}\n", encoding="utf-8")
    with pytest.raises(InputError, match="two identities"):
        open_listed(tmp_path / "list.csv")


@pytest.mark.parametrize("line", ["josé", "José ", " JOSÉ", "José/", "\uff2aose\u0301"])
def test_a_line_that_is_nearly_a_name_is_refused(folder, line):
    source = FolderSource(folder("faces", ONE, "ada"))
    with pytest.raises(InputError, match=r"list.txt: the line .* names nobody, and there is the identity 'José'"):
        find_named(source, {line, "ada"}, "list.txt")
    assert find_named(source, {"somebody else"}).unknown == ["somebody else"]


@pytest.mark.parametrize(("one", "other"), [("ada", "ada "), ("ada", "\u00a0ada"), (f"{ONE}  1", f"{TWO} 1")])
def test_two_people_whose_names_differ_in_spaces_are_refused(folder, tmp_path, one, other):
    with pytest.raises(InputError, match=r"two identities that are both called .* and differ only in blanks"):
        FolderSource(folder("faces", "bo", one, other))
    (tmp_path / "list.csv").write_text(f"path,identity\n1.png,{one}\n2.png,{other}\n", encoding="utf-8")
    with pytest.raises(InputError, match="differ only in blanks"):
        open_listed(tmp_path / "list.csv")
    assert list(FolderSource(folder("alone", "bo", f"{other} ")).index.names) == sorted(["bo", f"{other} "])
