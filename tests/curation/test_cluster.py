"""Photographs sorted by person: the groups, the files, and bad input."""

import csv
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluating import unit
from facenet_jax.cli import main
from facenet_jax.curation import people as people_module
from facenet_jax.curation.grouping import group, k_means
from facenet_jax.curation.results_folder import claimed
from facenet_jax.datasets.drawn import render
from facenet_jax.errors import InputError
from networks import linear_network
from preparing import encoded


def scattered(faces, seed, noise=0.5):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(6, 8))[rng.integers(0, 6, faces)] + noise * rng.normal(size=(faces, 8))
    return unit(points)


@given(st.integers(2, 40), st.floats(0.05, 1.0), st.integers(0, 99))
def test_set_by_set_gives_the_same_groups_as_all_at_once(faces, threshold, seed):
    points = scattered(faces, seed)
    whole = group(points, threshold)
    apart = group(points, threshold, most_faces=faces - 1)
    assert whole.sizes.tolist() == sorted(whole.sizes, reverse=True)
    if "cut apart" not in apart.method:  # the sets fit
        np.testing.assert_array_equal(whole.people, apart.people)


def test_a_set_that_does_not_fit_falls_apart():
    points = scattered(60, 0, noise=0.2)
    found = group(points, 3.0, most_faces=30)
    assert "sets of more than 30 faces cut apart at" in found.method
    assert found.sizes.max() <= 30
    assert found.sizes.sum() == 60
    assert group(points, 3.0).sizes.tolist() == [60]
    with pytest.raises(InputError, match="one and the same point"):
        group(np.repeat(points[:1], 40, axis=0), 3.0, most_faces=30)


def test_as_many_groups_as_asked_for():
    pytest.importorskip("sklearn")
    points = np.repeat(np.eye(4, dtype=np.float32), [4, 3, 2, 1], axis=0)
    assert k_means(points, 4).people.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 3]
    for people in (0, 11):
        with pytest.raises(InputError, match=f"--people={people} is not possible with 10 faces"):
            k_means(points, people)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    """An ONNX network of one product: similar pictures are near each other, others are not."""
    file = tmp_path_factory.mktemp("network") / "linear.onnx"
    linear_network(file, (8, 8), "nchw", 0, d=16)
    return f"onnx:{file}"


@pytest.fixture
def album(tmp_path):
    """Three pictures of one drawn face at several sizes, two of another, one of a third, and a broken file."""
    root = tmp_path / "album"
    (root / "a trip").mkdir(parents=True)
    for name, who, side in (
        ("1.png", 0, 64),
        ("a trip/1.png", 0, 72),
        ("a trip_1.png", 0, 80),
        ("2.png", 1, 64),
        ("a trip/2.png", 1, 72),
        ("3.png", 2, 64),
    ):
        (root / name).write_bytes(encoded(np.asarray(render(7, who, 0, (side, side)))))
    (root / "a trip" / "broken.jpg").write_bytes(b"")
    return root


def clustered(album, out, embedder, *how):
    return main(["cluster", str(album), "-o", str(out), "--embedder", embedder, "--crop", "none", *how])


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("how", [("--threshold", "0.05"), ("--people", "3")])
def test_folders_table_summary_and_page(album, tmp_path, embedder, capsys, monkeypatch, links, how):
    if not links:

        def refuse(*_):
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(people_module.Path, "symlink_to", refuse)
    out = tmp_path / "people"
    assert clustered(album, out, embedder, *how) == 0
    said = capsys.readouterr().out
    assert "3 people on 7 photographs, 6 faces" in said
    assert "a trip/broken.jpg (empty file)" in said
    folders = {folder.name: sorted(folder.iterdir()) for folder in out.iterdir() if folder.is_dir()}
    assert {name: len(files) for name, files in folders.items()} == {"person_001": 3, "person_002": 2, "once": 1}
    # Two files whose places become the same name are both there.
    assert [file.name for file in folders["person_001"]] == ["1.png", "a trip_1.png", "a trip_1~2.png"]
    for files in folders.values():
        assert all(file.is_symlink() == links for file in files)
    contents = {file.read_bytes() for file in folders["person_002"]}
    assert contents == {(album / "2.png").read_bytes(), (album / "a trip" / "2.png").read_bytes()}
    with (out / "people.csv").open(newline="") as file:
        rows = {row["file"]: row["person"] for row in csv.DictReader(file)}
    assert rows == {
        "1.png": "1", "a trip/1.png": "1", "a trip_1.png": "1", "2.png": "2", "a trip/2.png": "2", "3.png": "3"
    }  # fmt: skip
    document = json.loads((out / "people.json").read_text())
    assert document["faces_of_each"] == [3, 2, 1]
    assert (document["people_seen_several_times"], document["people_seen_once"]) == (2, 1)
    page = (out / "people.html").read_text()
    assert page.index("person 001") < page.index("person 002") < page.index("1 people seen once")
    assert page.count("data:image/jpeg;base64,") == 6
    assert "http" not in page.replace("viewport", "")
    assert sorted(file.name for file in out.iterdir() if not file.is_dir()) == [
        "people.csv",
        "people.html",
        "people.json",
    ]
    # What is there is never overwritten.
    assert clustered(album, out, embedder, *how) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_names_that_are_too_long_keep_their_ends(tmp_path, monkeypatch):
    deep = "/".join("ä" * 60 for _ in range(5))
    flat = people_module._flat(f"{deep}/trip/1.jpg#2", f"{deep}/trip/1.jpg")
    assert 230 < len(os.fsencode(flat)) <= 240
    assert flat.isprintable()  # no letter is cut apart
    assert flat.endswith("ä_trip_1#2.jpg")
    other = people_module._flat(f"b/{deep}/trip/1.jpg#2", f"b/{deep}/trip/1.jpg")
    assert flat != other
    assert flat[9:] == other[9:]
    (tmp_path / "1.jpg").write_bytes(b"")
    for _ in range(2):
        people_module.link(tmp_path / "1.jpg", tmp_path / flat)
    assert len(list(tmp_path.iterdir())) == 3
    # Other errors are raised.
    monkeypatch.setattr(people_module.Path, "symlink_to", lambda *_: os.stat("x" * 300))
    with pytest.raises(OSError, match="too long"):
        people_module.link(tmp_path / "1.jpg", tmp_path / "2.jpg")
    assert not (tmp_path / "2.jpg").exists()


def test_the_folder_of_a_killed_process_is_used_again(album, tmp_path, embedder):
    out = tmp_path / "people"
    (out / ".new" / "person_001").mkdir(parents=True)
    assert clustered(album, out, embedder, "--threshold", "0.05") == 0
    assert sorted(file.name for file in out.iterdir() if file.is_dir()) == ["once", "person_001", "person_002"]


def test_killed_while_moving_its_results_it_resumes(album, tmp_path, embedder, monkeypatch):
    out = tmp_path / "people"
    replace, moved = Path.replace, []

    def killed(self, target):
        if self.parent.name == ".new" != target.parent.name:
            if len(moved) == 2:
                raise KeyboardInterrupt
            moved.append(self.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    assert clustered(album, out, embedder, "--threshold", "0.05") == 130
    monkeypatch.undo()
    assert {*moved} < {file.name for file in out.iterdir()}
    (out / ".people.csv.1-a.tmp").touch()  # as write_whole leaves it
    # With one group fewer nothing of the first call is left over.
    assert clustered(album, out, embedder, "--threshold", "3.9") == 0
    assert sorted(file.name for file in out.iterdir() if file.is_dir()) == ["person_001"]
    assert not {".new", ".moved", ".people.csv.1-a.tmp"} & {file.name for file in out.iterdir()}
    again = pytest.raises(InputError, match="another process is at work")
    with claimed(tmp_path / "other", ()), again, claimed(tmp_path / "other", ()):
        pass


def test_bad_input_is_refused_in_one_sentence(album, tmp_path, embedder, capsys):
    out, empty, alone, nobody = (tmp_path / name for name in ("out", "empty", "alone", "nobody"))
    for folder in (empty, alone, nobody):
        folder.mkdir()
    shutil.copy(album / "1.png", alone)
    (nobody / "broken.jpg").write_bytes(b"")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    near = ("--threshold", "0.5")
    for photos, where, how, words in (
        (empty, out, near, "holds no photographs"),
        (alone, tmp_path / "out of one", near, "show only one face"),
        (nobody, tmp_path / "out of nobody", near, "show no face"),
        (album, out, (), "The distance within which two groups are one person is not known"),
        (album, out, ("--far", "0.001", *near), "give --evaluation too"),
        (album, out, ("--threshold", "5"), "lie between 0 and 4"),
        (album, out, ("--evaluation", str(album / "1.png")), "is not a result of `facenet-jax evaluate`"),
        (album, album / "people", near, "which is read only"),
        (album, full, near, "nothing is overwritten"),
        (album, tmp_path / "out of seven", ("--people", "7"), "--people=7 is not possible with 6 faces"),
    ):
        assert clustered(photos, where, embedder, *how) == 2, words
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert words in said
    assert not out.exists()
    assert [file.name for file in full.iterdir()] == ["mine.txt"]
