"""Audits: planted errors are found, pages and files are right, and other commands accept the list."""

import csv
import json
import os
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluating import unit
from facenet_jax.cli import main
from facenet_jax.config import load_config
from facenet_jax.curation import label_errors
from facenet_jax.curation.audit import EXCLUDE_FROM, audit, to_leave_out
from facenet_jax.curation.label_errors import (
    merged_identities,
    nearness,
    pairs_within,
    split_identities,
    wrong_labels,
)
from facenet_jax.datasets.folder import FolderSource
from facenet_jax.embedders import open_embedder
from facenet_jax.errors import InputError
from facenet_jax.runtime.progress import Progress
from facenet_jax.training.training_faces import open_faces
from networks import linear_network
from preparing import encoded, prepared


def made_up(sizes, seed=0, noise=0.5):
    """Synthetic unit vectors around a centre for each identity."""
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(len(sizes)), sizes)
    points = rng.normal(size=(len(sizes), 32))[identity] + noise * rng.normal(size=(len(identity), 32))
    return unit(points), identity


def relabelled(points, labels):
    order = np.argsort(labels, kind="stable")
    return points[order], labels[order], order


def test_distances_by_their_definitions(monkeypatch):
    monkeypatch.setattr(label_errors, "_BLOCK", 7)
    points, identity = made_up([1, 2, 3, 4, 9, 0, 6])
    near = nearness(points, identity)
    wide = points.astype(np.float64)
    squared = np.sum((wide[:, None] - wide) ** 2, axis=-1)
    for face, number in enumerate(identity):
        own = sorted(squared[face, i] for i in np.flatnonzero(identity == number) if i != face)
        half = own[: -(-len(own) // 2)]
        assert near.own[face] == pytest.approx(np.mean(half), abs=1e-5) if half else np.isnan(near.own[face])
        others = {j: squared[face, identity == j].mean() for j in set(identity) - {number}}
        assert near.nearest[face] == min(others, key=others.get)
        assert near.other[face] == pytest.approx(min(others.values()), abs=1e-5)
    pairs, distances = pairs_within(points, 0.9)
    expected = {(i, j) for i, j in np.argwhere(np.triu(squared <= 0.9, 1)).tolist()}
    assert {tuple(pair) for pair in pairs.tolist()} == expected
    np.testing.assert_allclose(distances, np.sort([squared[i, j] for i, j in expected]), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_planted_wrong_labels_are_found(seed):
    rng = np.random.default_rng(seed)
    points, identity = made_up(rng.integers(2, 15, 80), seed)
    wrong = rng.choice(len(identity), len(identity) // 20, replace=False)
    labels = identity.copy()
    labels[wrong] = (identity[wrong] + rng.integers(1, 80, len(wrong))) % 80
    points, labels, order = relabelled(points, labels)
    found = set(order[wrong_labels(nearness(points, labels), labels)].tolist())
    assert len(found & set(wrong.tolist())) >= 0.95 * len(wrong)
    assert len(found & set(wrong.tolist())) >= 0.95 * len(found)


def test_in_an_identity_of_two_faces_the_one_that_fits_elsewhere_is_wrong():
    points, identity = made_up([2, 6, 6, 6])
    identity[np.flatnonzero(identity == 2)[0]] = 0
    identity[1] = 1
    points, labels, order = relabelled(points, identity)
    # Identity 0 has its own first face and one of 2's; 1 has one of 0's.
    found = [int(order[face]) for face in wrong_labels(nearness(points, labels), labels)]
    assert sorted(found) == [1, 8]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_of_faces_with_the_same_bytes_the_least_suspicious_stays(file_of, random):
    suspicion = np.array([random.choice([0.1, 0.3, 0.6, 0.9, np.nan]) for _ in file_of])
    wrong = np.flatnonzero([random.random() < 0.3 for _ in file_of])
    copies = []
    for face, file in enumerate(file_of):
        before = [other for other in range(face) if file_of[other] == file]
        if before:  # the first of all, or another copy
            copies.append((face, random.choice(before)))
    left_out = to_leave_out(wrong, np.array(copies, np.int64).reshape(-1, 2), suspicion)
    sure = {face for face in wrong.tolist() if suspicion[face] >= EXCLUDE_FROM}
    for file in set(file_of):
        faces = [face for face, one in enumerate(file_of) if one == file and face not in sure]
        stays = [face for face in faces if not left_out[face]]
        assert len(stays) == min(1, len(faces))
        if stays:
            rank = [np.inf if np.isnan(suspicion[face]) else suspicion[face] for face in faces]
            assert stays == [faces[int(np.argmin(rank))]]
    assert left_out[sorted(sure)].all()


def test_merged_and_split_identities_are_found():
    points, identity = made_up([6] * 12)
    labels = identity.copy()
    labels[identity == 3] = 2
    labels[np.flatnonzero(identity == 7)[::2]] = 12
    points, labels, order = relabelled(points, labels)
    near = nearness(points, labels)
    (merged,) = merged_identities(points, labels, near)
    assert merged.identity == 2
    assert {frozenset(identity[order[part]].tolist()) for part in merged.parts} == {frozenset({2}), frozenset({3})}
    (split,) = split_identities(points, labels, near)
    assert set(split.identities) == {7, 12}


def test_embeddings_that_cannot_judge_labels_are_refused(monkeypatch):
    points, identity = made_up([5] * 6)
    shuffled = np.random.default_rng(0).permutation(points)
    monkeypatch.setattr(label_errors, "_MOST_PAIRS", 100)
    with pytest.raises(
        InputError, match=r"More than 100 pairs of the 30 faces lie within a squared distance of 4\.0000"
    ):
        pairs_within(points, 4.0)
    with pytest.raises(InputError, match="does not tell these people apart"):
        nearness(shuffled, identity)
    for labels in (np.zeros(30, np.int64), np.arange(30)):
        with pytest.raises(InputError, match="none of which can be compared"):
            nearness(points, labels)


class _Page(HTMLParser):
    """Addresses that a browser would fetch, headings, and open elements."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.headings, self.open, self.images = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.images += tag == "img"
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)
        self.fetched += [value for key, value in attributes if key in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture
def mislabelled(photos, tmp_path):
    """A folder with two faces under wrong names and a file twice, and embeddings of it."""
    root = tmp_path / "faces"
    shutil.copytree(photos, root)
    (root / "person 01" / "0.png").rename(root / "person 02" / "from 1.png")
    (root / "person 03" / "1.jpg").rename(root / "person 04" / "from <3>.jpg")
    shutil.copy(root / "person 05" / "0.png", root / "person 05" / "again.png")
    (root / "person 06" / "broken.png").write_bytes(b"")
    files = list(FolderSource(root).places())
    true = [3 if "<3>" in file else 1 if "from 1" in file else int(file[7:9]) for file in files]
    rng = np.random.default_rng(0)
    points = rng.normal(size=(16, 32))[true] + 0.5 * rng.normal(size=(len(files), 32))
    points[files.index("person 05/again.png")] = points[files.index("person 05/0.png")]
    np.savez(tmp_path / "points.npz", embeddings=points, names=files)
    return root, tmp_path / "points.npz"


WRONG = {"person 02/from 1.png", "person 04/from <3>.jpg"}
OUT = {*WRONG, "person 05/again.png"}


@pytest.mark.parametrize("form", ["folder", "prepared"])
def test_the_files_of_an_audit(mislabelled, tmp_path, capsys, form):
    root, points = mislabelled
    data = root
    if form == "prepared":
        prepared(root, data := tmp_path / "prepared")
    out = tmp_path / "audit"
    command = ["audit", str(data), "--embedder", str(points), "-o", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 faces nearer to another identity" in said
    assert "1 of the same bytes, 0 of them under another identity" in said
    assert "doubtful" not in said
    assert set((out / "exclude.txt").read_text().splitlines()) == OUT
    document = json.loads((out / "audit.json").read_text())
    assert {one["face"]: one["nearer_to"] for one in document["wrong_labels"]} == {
        "person 02/from 1.png": "person 01",
        "person 04/from <3>.jpg": "person 03",
    }
    with (out / "findings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["face"] for row in rows if row["kind"] == "wrong label"} == WRONG
    assert [(row["face"], row["other_face"]) for row in rows if row["kind"] == "copy"] in (
        [("person 05/again.png", "person 05/0.png")],
        [("person 05/0.png", "person 05/again.png")],
    )
    page = _Page((out / "audit.html").read_text())
    assert all(address.startswith("data:") for address in page.fetched)
    assert page.headings[:2] == ["Findings", "Probably wrong labels"]
    assert page.images == 2 * (1 + 4 + 4) + 2
    assert "from &lt;3&gt;.jpg" in (out / "audit.html").read_text()
    # `train` and `prepare` accept the list.
    given = [f"--config.data.path={data}", f"--config.data.exclude={out / 'exclude.txt'}", "--config.eval.holdout=0.3"]
    assert "0 identities and 3 faces that" in open_faces(load_config("quickstart", given)).describe()
    report = prepared(root, tmp_path / "again", exclude=out / "exclude.txt").summary
    assert report.rejects["left out by --exclude"] == 3
    # Its own files are written again; others are not touched.
    assert main(command) == 0
    (out / "mine.txt").write_text("mine")
    assert main(command) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_an_embedder_that_hardly_separates_people_is_doubted(mislabelled, tmp_path, capsys):
    root, points = mislabelled
    with np.load(points) as held:
        names, embeddings = held["names"].tolist(), held["embeddings"]
    noise = np.random.default_rng(0).normal(size=embeddings.shape)
    np.savez(points, embeddings=embeddings + 1.5 * noise, names=names)
    assert main(["audit", str(root), "--embedder", str(points), "-o", str(tmp_path / "audit")]) == 0
    words = "does not tell these faces apart"
    assert words in capsys.readouterr().out
    assert words in (tmp_path / "audit" / "audit.html").read_text()


def looks_of_three(root):
    """Writes pictures of noise, eight pixels wide, that are alike within each of three people."""
    rng = np.random.default_rng(0)
    for person in "abc":
        (root / person).mkdir(parents=True)
        looks = rng.integers(20, 236, (8, 8, 3))
        for name in "012":
            pixels = looks + rng.integers(-20, 20, looks.shape)
            (root / person / f"{name}.png").write_bytes(encoded(pixels.astype(np.uint8)))


def test_a_dataset_is_cut_as_the_embedder_expects_unless_already_cut(tmp_path, capsys):
    looks_of_three(root := tmp_path / "faces")
    linear_network(tmp_path / "net.onnx", (8, 8), "nchw", None, d=16)
    spec = f"onnx:{tmp_path / 'net.onnx'},scale=1,mean=128,crop="
    prepared(root, cut := tmp_path / "cut", crop="centre", size=16)
    for data, crop, options, words in (
        (root, "centre", [], "faces are cut with --crop centre, as "),
        (root, "centre", ["--crop=none"], "taken as they are (--crop none); give --crop centre, unless"),
        (cut, "centre", [], ""),
        (cut, "tight", [], "expects faces cut with --crop tight, and these were prepared with --crop centre; give"),
    ):
        assert main(["audit", str(data), f"--embedder={spec}{crop}", "-o", str(tmp_path / "audit"), *options]) == 0
        said = capsys.readouterr().err
        assert words in said if words else "--crop" not in said


def test_a_replaced_picture_is_embedded_again(tmp_path):
    looks_of_three(root := tmp_path / "faces")
    kept = tmp_path / "kept"
    linear_network(tmp_path / "net.onnx", (8, 8), "nchw", None, d=16)
    embedder = open_embedder(f"onnx:{tmp_path / 'net.onnx'},scale=1,mean=128")
    first, again = (audit(root, embedder, "none", kept, Progress(quiet=True)) for _ in range(2))
    np.testing.assert_array_equal(first.near.own, again.near.own)
    (root / "a" / "0.png").write_bytes((root / "b" / "2.png").read_bytes())
    after = audit(root, embedder, "none", kept, Progress(quiet=True))
    changed = first.files.index("a/0.png")
    assert after.near.own[changed] != pytest.approx(first.near.own[changed])


def test_names_that_are_not_utf8(mislabelled, tmp_path):
    root, points = mislabelled
    was, name = "person 05/again.png", os.fsdecode(b"person 05/\xff.png")
    (root / was).rename(root / name)
    with np.load(points) as held:
        names, embeddings = held["names"].tolist(), held["embeddings"]
    np.savez(points, embeddings=embeddings, names=[name if known == was else known for known in names])
    assert main(["audit", str(root), "--embedder", str(points), "-o", str(tmp_path / "audit")]) == 0
    listed = (tmp_path / "audit" / "exclude.txt").read_bytes().splitlines()
    assert set(listed) == {os.fsencode(one) for one in {*WRONG, name}}
    report = prepared(root, tmp_path / "again", exclude=tmp_path / "audit" / "exclude.txt").summary
    assert report.rejects["left out by --exclude"] == 3


def test_one_picture_under_two_names_is_wrong_once(mislabelled, tmp_path):
    root, points = mislabelled
    shutil.copy(root / "person 07" / "0.png", root / "person 08" / "stray.png")
    with np.load(points) as held:
        names, embeddings = held["names"].tolist(), held["embeddings"]
    same = embeddings[names.index("person 07/0.png")]
    np.savez(points, embeddings=[*embeddings, same], names=[*names, "person 08/stray.png"])
    assert main(["audit", str(root), "--embedder", str(points), "-o", str(tmp_path / "audit")]) == 0
    assert set((tmp_path / "audit" / "exclude.txt").read_text().splitlines()) == {*OUT, "person 08/stray.png"}
