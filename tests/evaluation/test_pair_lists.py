"""Published lists of pairs: read as published, and refused in one sentence if they are malformed."""

import pickle
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.cli import main
from facenet_jax.errors import InputError
from facenet_jax.evaluation.protocols.lfw import read_lfw_pairs
from facenet_jax.evaluation.protocols.pairs import read_bin
from facenet_jax.evaluation.protocols.ytf import read_ytf_splits
from facenet_jax.evaluation.request import Request

FOLDS = "2\t1\nAda\t1\t2\nAda\t1\tBob\t3\nBob\t3\t12\nCy\t1\tBob\t3\n"


def written(tmp_path, text, name="pairs.txt"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / name


@pytest.mark.parametrize("text", [FOLDS, FOLDS.replace("\n", "\r\n"), "\n" + FOLDS.replace("\n", "\n\n"), FOLDS[:-1]])
def test_lfw_pairs_with_any_ends_of_lines(tmp_path, text):
    listed = read_lfw_pairs(written(tmp_path, text))
    named = [(listed.keys[i], listed.keys[j]) for i, j in listed.pairs]
    assert named == [
        ("Ada/Ada_0001.jpg", "Ada/Ada_0002.jpg"),
        ("Ada/Ada_0001.jpg", "Bob/Bob_0003.jpg"),
        ("Bob/Bob_0003.jpg", "Bob/Bob_0012.jpg"),
        ("Cy/Cy_0001.jpg", "Bob/Bob_0003.jpg"),
    ]
    assert listed.same.tolist() == [True, False, True, False]
    assert listed.fold.tolist() == [0, 0, 1, 1]
    assert [listed.people[i] for i in listed.pairs[3]] == ["Cy", "Bob"]
    kept = listed.without({"Cy"})
    assert (len(kept.pairs), kept.fold.tolist()) == (3, [0, 0, 1])
    with pytest.raises(InputError, match="Every pair shows somebody who was trained on"):
        listed.without({"Ada", "Bob"})


def test_names_may_contain_spaces_between_tabs(tmp_path):
    listed = read_lfw_pairs(written(tmp_path, "1\nAda Lovelace\t1\t2\nAda Lovelace\t1\tBob\t3\n"))
    assert listed.keys[0] == "Ada Lovelace/Ada Lovelace_0001.jpg"
    assert listed.people == ("Ada Lovelace", "Ada Lovelace", "Bob")
    with pytest.raises(InputError, match="divide its parts by tabs if a name has blanks"):
        read_lfw_pairs(written(tmp_path, "1\nAda Lovelace 1 2\nAda Lovelace 1 Bob 3\n"))


def test_a_person_in_two_unicode_forms_is_one(tmp_path):
    one, two = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
    listed = read_lfw_pairs(written(tmp_path, f"1\n{one} 1 2\n{two} 2 Bob 3\n"))
    assert listed.people == (one, one, "Bob")
    videos = read_ytf_splits(written(tmp_path, f"1,{one}/1,{two}/2,1\n2,{two}/1,Bob/2,0\n"))
    assert videos.keys == (f"{one}/1", f"{one}/2", "Bob/2")


def test_one_fold_is_refused_before_anything_is_embedded(tmp_path, photos, network, capsys, monkeypatch):
    def embed(*_, **__):
        raise AssertionError

    monkeypatch.setattr(Request, "embed", embed)
    assert main(["evaluate", "robustness", f"--embedder={network}", f"--data={photos}", "--far=1e-9"]) == 2
    assert "needs 1,000,000,000; give a larger --far" in capsys.readouterr().err
    pairs = written(tmp_path, "1\nAda 1 2\nAda 1 Bob 3\n")
    assert main(["evaluate", "lfw", f"--embedder={network}", f"--data={photos}", f"--pairs={pairs}"]) == 2
    assert "--threshold-pairs" in capsys.readouterr().err


def test_one_fold_of_the_development_view(tmp_path):
    listed = read_lfw_pairs(written(tmp_path, "1\nAda 1 2\nAda 1 Bob 3\n"))
    assert (listed.same.tolist(), listed.fold.tolist()) == ([True, False], [0, 0])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("ten 300\n", "does not say how many folds"),
        ("2 1\nAda 1 2\nAda 1 Bob 3\n", "has 2 pairs, and its first line says 2 x 2 x 1 = 4"),
        (FOLDS + "Ada 1 2\n", "has 5 pairs"),
        (FOLDS.replace("Ada\t1\t2", "Ada\t1"), "line 2: 'Ada 1' is not `name i j`"),
        (FOLDS.replace("Ada\t1\tBob\t3", "Ada\t1\t3"), "line 3: 'Ada 1 3' is not `name i name j`"),
        (FOLDS.replace("Bob\t3\t12", "Bob\tthree\t12"), "line 4"),
        (FOLDS.replace("Cy\t1", "Bob\t1"), "line 5: Bob stands twice"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8 but in UTF-16 or UTF-32"),
        (FOLDS.encode("utf-16-le"), "save it as UTF-8"),
        ("2 1\nJosé 1 2\n".encode("latin-1"), "is not a text file in UTF-8"),
    ],
)
def test_lfw_pairs_that_are_wrong(tmp_path, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read_lfw_pairs(written(tmp_path, text))
    with pytest.raises(InputError, match="cannot be read"):
        read_lfw_pairs(tmp_path / "none.txt")


@given(st.lists(st.tuples(st.binary(min_size=1), st.binary(min_size=1), st.booleans()), min_size=1, max_size=25))
def test_bin_files_of_any_content(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bin") / "a.bin"
    images = [image for first, second, _ in content for image in (first, second)]
    path.write_bytes(pickle.dumps((images, [same for *_, same in content]), protocol=4))
    listed, files = read_bin(path)
    assert files == images
    assert listed.same.tolist() == [same for *_, same in content]
    people = dict(zip(listed.keys, listed.people, strict=True))
    for (i, j), same in zip(listed.pairs, listed.same, strict=True):
        if same:
            assert people[str(i)] == people[str(j)]
    assert all(people[str(i)] == people[str(j)] for i, a in enumerate(files) for j, b in enumerate(files) if a == b)
    sizes = np.bincount(listed.fold)
    assert len(sizes) == min(10, len(content))
    assert sizes.max() - sizes.min() <= 1
    assert np.all(np.diff(listed.fold) >= 0)


def test_bin_files_of_python_2(tmp_path):
    # Protocol 2 as Python 2 writes it: strings of bytes as SHORT_BINSTRING.
    data = b"\x80\x02(]q\x00(U\x01aU\x01be]q\x01\x88at."
    listed, files = read_bin(written(tmp_path, data, "old.bin"))
    assert (files, listed.same.tolist()) == ([b"a", b"b"], [True])


class _Runs:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (([b"a", b"b"], [_Runs()]), "asks Python for builtins.print"),
        (([np.zeros(3, np.uint8), b"b"], [True]), "asks Python for numpy"),
        (([b"a", b"b"], np.array([True])), "asks Python for numpy"),
        ([b"a", b"b"], "images are not all bytes"),
        ({"a": 1}, "does not hold two lists"),
        (([b"a", b"b", b"c"], [True]), "3 images and 1 answers"),
        (([], []), "0 images and 0 answers"),
        (([b"a", "b"], [True]), "images are not all bytes"),
        (([b"a", b"b"], ["yes"]), "answers are not all true or false"),
    ],
)
def test_bin_files_that_need_more_than_bytes_and_lists(tmp_path, content, sentence, capsys):
    path = written(tmp_path, pickle.dumps(content, protocol=4), "a.bin")
    with pytest.raises(InputError, match=sentence):
        read_bin(path)
    assert "never" not in capsys.readouterr().out


def test_bin_files_that_are_damaged(tmp_path):
    whole = pickle.dumps(([b"a" * 100, b"b"], [True]), protocol=4)
    for data in (b"", whole[:40], b"\x89PNG\r\n", b"cos\nsystem\n(S'echo'\ntR."):
        with pytest.raises(InputError, match=r"not a readable pickle|asks Python|refers to objects"):
            read_bin(written(tmp_path, data, "a.bin"))


@pytest.mark.parametrize("head", ["", "split number, first name, second name, similarity, is same\n"])
def test_the_splits_of_youtube_faces(tmp_path, head):
    lines = "1, Ada/0, Ada/3, 0.7, 1\r\n1, Ada/0, Bob/1, 0.1, 0\r\n\r\n2, Cy/1, Bob/1, 0.2, 0\r\n"
    listed = read_ytf_splits(written(tmp_path, head + lines, "splits.txt"))
    assert [(listed.keys[i], listed.keys[j]) for i, j in listed.pairs] == [
        ("Ada/0", "Ada/3"),
        ("Ada/0", "Bob/1"),
        ("Cy/1", "Bob/1"),
    ]
    assert (listed.same.tolist(), listed.fold.tolist()) == ([True, False, False], [0, 0, 1])
    assert listed.people == ("Ada", "Ada", "Bob", "Cy")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no pair of videos"),
        ("1, Ada/0\n", "line 1"),
        ("1, Ada/0, Ada/1, maybe\n", "line 1"),
        ("1, Ada/0, Ada/1, 1\n3, Ada/0, Bob/1, 0\n", r"splits are \[1, 3\]"),
    ],
)
def test_splits_that_are_wrong(tmp_path, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read_ytf_splits(written(tmp_path, text))
