"""A new network with an index of an old one: people are found by a threshold measured between the two."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facenet_jax.embedders import open_embedder
from facenet_jax.embedders.engine import EmbeddedFaces
from facenet_jax.recognition.finder import Known
from facenet_jax.recognition.identify import identify
from facenet_jax.recognition.index import PeopleIndex, Vectors
from facenet_jax.recognition.index_files import load_index, save_index
from facenet_jax.recognition.thresholds import Threshold
from networks import saved_run

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An old run, one that was trained to be compatible with it, and one that was not."""
    folder = tmp_path_factory.mktemp("runs")
    old, new, other = (saved_run(folder / name, seed=seed) for seed, name in enumerate(("old", "new", "other")))
    digests = {"train": "", "held_out": "", "compatible_with": open_embedder(old).digest}
    (Path(new) / "run.json").write_text(json.dumps({"config": {}, "digests": digests}))
    return old, new, other


def test_identify_takes_a_compatible_network_and_no_other(runs, photos, tmp_path, said):
    old, new, other = runs
    index, probe = tmp_path / "index", photos / "person 00" / "0.png"
    common = [f"--data={photos}", "--false-alarms=0.5", "--crop=none"]
    assert said("evaluate", "identify", f"--embedder={old}", *common, f"--out={tmp_path / 'old'}")[0] == 0
    kept = ["--evaluation", tmp_path / "old" / "identify.json"]
    assert said("enroll", photos, index, "--embedder", old, "--crop=none", *kept)[0] == 0

    ask = ["identify", probe, index, "--accept-rate=1", "--embedder"]
    code, _, sentence = said(*ask, other)
    assert code == 2
    assert f"was enrolled with {old} at step 6, and {other} at step 6 is another embedder" in sentence
    both = f"{new} at step 6 against {old} at step 6"
    code, _, sentence = said(*ask, new)  # the index's own thresholds are for the old network
    assert code == 2
    assert f"has none of {both}: give --evaluation" in sentence
    assert f"evaluate identify --embedder {new} --step 6 --against {old} --crop none" in sentence

    results = tmp_path / "new"
    assert said("evaluate", "identify", f"--embedder={new}", *common, f"--out={results}")[0] == 0
    code, _, sentence = said(*ask, new, "--evaluation", results / "identify.json")
    assert code == 2
    assert f"and not of {both} as it is now" in sentence
    assert said("evaluate", "identify", f"--embedder={new}", f"--against={old}", *common, f"--out={results}")[0] == 0
    code, out, _ = said(*ask, new, "--evaluation", results / "identify.json", "-o", tmp_path / "found.json")
    assert code == 0
    assert f"compared        {both}, which enrolled the people" in out
    entry = json.loads((results / "identify.json").read_text())["embedders"][1]
    assert json.loads((tmp_path / "found.json").read_text())["threshold"]["distance"] == pytest.approx(
        entry["result"]["open_set"][0]["threshold"]
    )
    code, _, sentence = said("enroll", photos, index, "--embedder", other, "--crop=none")
    assert code == 2
    assert f"was enrolled with {old} at step 6, and {other} at step 6 is another embedder" in sentence
    assert said(*ask, old)[0] == 0


def test_a_compatible_network_enrols_into_an_old_index_and_each_face_keeps_its_embedder(runs, photos, tmp_path, said):
    old, new, other = runs
    index, gallery, more = tmp_path / "index", tmp_path / "gallery", "person 05"
    shutil.copytree(photos, gallery, ignore=shutil.ignore_patterns(more))
    common = [f"--data={photos}", "--false-alarms=0.5", "--crop=none", f"--out={tmp_path / 'results'}"]
    assert said("evaluate", "identify", f"--embedder={new}", f"--against={old}", *common)[0] == 0
    results = tmp_path / "results" / "identify.json"
    _, between, own = (
        one["result"]["open_set"][0]["threshold"] for one in json.loads(results.read_text())["embedders"]
    )
    assert said("enroll", gallery, index, "--embedder", old, "--crop=none", "--evaluation", results)[0] == 0
    assert json.loads((index / "index.json").read_text())["version"] == 1
    first = load_index(index)

    shutil.copytree(photos / more, gallery / more)
    code, out, _ = said("enroll", gallery, index, "--embedder", new, "--crop=none")  # without a threshold so far
    assert code == 0
    assert f"{len(first.files):,} faces stay as {old} at step 6 enrolled them" in out
    assert f"threshold       none holds: --evaluation takes what `evaluate identify --embedder {new}" in out
    probes = [photos / "person 00" / "0.png", photos / more / "0.png"]
    code, _, sentence = said("identify", *probes, index, "--accept-rate=1")
    assert code == 2
    assert f"{index} has none: give --evaluation" in sentence
    code, out, _ = said("enroll", index, "--evaluation", results)
    assert code == 0
    assert f"against         {old} at step 6, for the {len(first.files):,} faces that it enrolled:" in out

    both = load_index(index)
    assert (both.name, both.older.name) == (f"{new} at step 6", f"{old} at step 6")
    assert both.of_older.tolist() == [True] * len(first.files) + [False] * (len(both.files) - len(first.files))
    assert {file.split("/")[0] for file, older in zip(both.files, both.of_older, strict=True) if not older} == {more}
    found = tmp_path / "found.json"
    code, out, _ = said("identify", *probes, index, "--accept-rate=1", "-k1", "-o", found)
    assert code == 0
    assert f"against         {old} at step 6, for the {len(first.files):,} faces that it enrolled:" in out
    document = json.loads(found.read_text())
    assert document["threshold"]["distance"] == pytest.approx(own)
    assert document["older_threshold"]["distance"] == pytest.approx(between)
    for face in document["faces"]:
        (near,) = face["neighbours"]
        assert (face["person"] is not None) == (near["distance"] <= (between if near["older"] else own))
    assert [face["neighbours"][0]["older"] for face in document["faces"]][1] is False  # the same photograph

    # A stranger may be named by either kind of face: both rates count.
    code, _, sentence = said("identify", *probes, index, "--accept-rate=0.001")
    assert code == 2
    assert f"among {len(both.files):,} enrolled faces" in sentence
    for embedder in (old, other):
        code, _, sentence = said("identify", *probes, index, "--embedder", embedder)
        assert code == 2
        assert "is another" in sentence
    # No face of the first network is left: the index is of the second alone.
    code, _, _ = said("enroll", index, "--remove", *{file.split("/")[0] for file in first.files})
    assert code == 0
    alone = load_index(index)
    assert (alone.people, alone.older, alone.older_thresholds) == ([more], None, [])
    assert len(alone.thresholds) == 1


def test_a_face_is_named_by_the_threshold_of_the_embedder_that_enrolled_it(tmp_path):
    points = np.eye(4, dtype=np.float32)
    index = PeopleIndex("new", None, "new", "n", "none", Vectors(4))
    index.add(points[:2], ["ada", "ben"], ["ada/0", "ben/0"], [bytes(16), bytes(15) + b"1"])
    index.older, index.of_older = Known("old", "old", "o"), np.array([True, False])
    save_index(index, tmp_path)
    index = load_index(tmp_path)
    near = np.array([[0.8, 0, 0.6, 0], [0, 0.8, 0.6, 0]], np.float32)  # squared distance 0.4 of ada and of ben
    nothing, no = np.full((2, 4), np.nan, np.float32), np.zeros(2, bool)
    faces = EmbeddedFaces(("one", "two"), np.arange(2), nothing, nothing[:, 0], no, no, near, ())
    rate = Threshold(0.1, 0.5, 0.1, "identify", "photos", "none", 100, 10)
    for own, older, names in ((0.5, 0.3, [None, "ben"]), (0.3, 0.5, ["ada", None])):
        found = identify(index, faces, replace(rate, distance=own), 1, replace(rate, distance=older))
        assert [one.person for one in found] == names
