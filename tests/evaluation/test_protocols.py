"""The protocols on folders, run as commands: which people and images are left out, kept or refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from evaluating import picture, refused
from facenet_jax.cli import main
from facenet_jax.config import flatten
from facenet_jax.datasets.folder import FolderSource
from facenet_jax.embedders import engine as embedding
from facenet_jax.embedders import open_embedder
from facenet_jax.embedders.engine import Images, embed_images
from facenet_jax.embedders.labelled_images import open_labelled, without
from facenet_jax.errors import InputError
from facenet_jax.evaluation.request import Request
from facenet_jax.images.cut import FaceCutter
from facenet_jax.training.run_identities import own_held_out, trained_on
from facenet_jax.training.training_faces import open_faces
from networks import linear_network, saved_run
from preparing import prepared


def test_people_that_a_run_was_trained_on_are_left_out(tmp_path, photos, capsys):
    run = saved_run(tmp_path / "run", photos)
    assert main(["evaluate", "photos", f"--embedder={run}", f"--data={photos}"]) == 0
    out = capsys.readouterr().out
    assert "14 identities were trained on too, and are left out: person 0" in out
    assert "10 faces of 2 identities; 20 same and 25 different pairs" in out
    assert "needs 100 different pairs, has 25" in out
    common = [f"--embedder={run}", f"--data={photos}", "--far", "0.1", f"--out={tmp_path / 'out'}"]
    assert main(["evaluate", "photos", *common, "--keep-shared"]) == 0
    out = capsys.readouterr().out
    assert "14 identities were trained on too, and are kept" in out
    document = json.loads((tmp_path / "out" / "photos.json").read_text())
    assert len(document["shared_and_kept"]) == 14
    assert document["embedders"][0]["result"]["faces"] == 64
    assert document["embedders"][0]["training"]["identities"] == 14


def test_another_crop_than_an_embedder_expects_is_warned_of(tmp_path, photos, capsys):
    linear_network(tmp_path / "net.onnx", (8, 6), "nchw", None)
    spec = f"onnx:{tmp_path / 'net.onnx'},scale=1,mean=128,crop="
    prepared(photos, cut := tmp_path / "cut", crop="centre", size=16)
    for data, crop, options, words in (
        (photos, "centre", [], "taken as they are (--crop none); give --crop centre, unless they are cut so already."),
        (photos, "tight", ["--crop=centre"], "these are cut with --crop centre; give --crop tight."),
        (photos, "none", ["--crop=centre"], ""),
        (cut, "centre", [], ""),
        (cut, "tight", [], "these were prepared with --crop centre; give --crop tight, or"),
    ):
        assert main(["evaluate", "photos", f"--embedder={spec}{crop}", f"--data={data}", *options, "--far=0.5"]) == 0
        said = capsys.readouterr().err
        assert words in said if words else "warning" not in said


def begun(run, digest=None):
    """Writes the run.json of a saved run, as if trained on faces of this digest (None: on those at its path)."""
    config = open_embedder(run).config
    digests = {"train": digest or open_faces(config).digest, "held_out": ""}
    (Path(run) / "run.json").write_text(json.dumps({"config": flatten(config), "digests": digests}))
    return run


def said_of(embedder):
    """(the names of the people that an embedder was trained on, its remarks)."""
    return sorted(trained_on(embedder)), embedder.remarks


def test_people_that_a_run_started_from_were_trained_on_too(tmp_path, photos, capsys):
    eldest = begun(saved_run(tmp_path / "eldest", photos))
    parent = begun(saved_run(tmp_path / "parent", init_from=eldest))
    child = saved_run(tmp_path / "child", init_from=parent)
    assert main(["evaluate", "photos", f"--embedder={child}", f"--data={photos}"]) == 0
    assert "14 identities were trained on too, and are left out: person 0" in capsys.readouterr().out
    embedder = open_embedder(child)
    names, remarks = said_of(embedder)
    assert (len(names), remarks) == (14, [])
    # By now the directory may hold another run, which started from its own child.
    (tmp_path / "eldest" / "run.json").unlink()
    (tmp_path / "eldest").rename(tmp_path / "gone")
    embedder.workdir.rename(eldest)
    embedder.workdir = Path(eldest)
    names, (remark,) = said_of(embedder)
    assert names == []
    assert "that it started from cannot be determined" in remark
    assert "started from this one" in remark
    embedder.workdir, embedder.remarks = Path(child), []
    names, (remark,) = said_of(embedder)
    assert "that it started from cannot be determined" in remark
    assert "has no run.json" in remark


def test_faces_that_have_changed_since_training_are_noted(tmp_path, photos):
    run = saved_run(tmp_path / "run", photos)
    for digest, remarks in ((None, 0), ("other", 1)):
        names, said = said_of(open_embedder(begun(run, digest)))
        assert len(names) == 14
        assert len(said) == remarks
    assert f"{photos} has changed since it was trained on" in said[0]
    child = saved_run(tmp_path / "child", init_from=run)
    assert f"{photos}, of {run} that it started from, has changed" in said_of(open_embedder(child))[1][0]
    (tmp_path / "run" / "run.json").unlink()
    assert said_of(open_embedder(run))[1] == []


def test_people_known_to_a_run_are_left_out_of_what_it_held_out(tmp_path, photos, capsys):
    held_out = tmp_path / "held out"
    for number in range(12):
        name = f"person {number:02d}" if number < 3 else f"other {number:02d}"
        shutil.copytree(photos / f"person {number:02d}", held_out / name)
    run = saved_run(tmp_path / "run", photos, **{"eval.path": held_out})
    command = ["evaluate", "holdout", f"--embedder={run}", "--far", "0.1"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "3 identities were trained on too, and are left out: person 00, person 01, person 02" in out
    assert "faces of 9 identities" in out
    assert main([*command, "--keep-shared"]) == 0
    out = capsys.readouterr().out
    assert "3 identities were trained on too, and are kept" in out
    assert "faces of 12 identities" in out


def test_fingerprints_say_which_faces_are_kept_and_of_which_pictures(tmp_path, photos):
    folder = open_labelled(photos)
    digests = {without(folder, {name}).images.digest for name in ("person 00", "person 01")}  # five faces each
    assert len(digests) == 2
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    embedder = open_embedder(saved_run(tmp_path / "run", copy))
    before = own_held_out(Request([embedder])).images
    assert own_held_out(Request([embedder])).images.digest == before.digest
    (record,) = (int(key.split("/")[1]) for key in before.keys[:1])
    Path(FolderSource(copy).describe(record)).write_bytes(picture(1, (32, 32)))
    assert own_held_out(Request([embedder])).images.digest != before.digest


def test_the_faces_that_a_run_held_out_itself(tmp_path, capsys):
    run = saved_run(tmp_path / "run")
    assert main(["evaluate", "holdout", f"--embedder={run}", "--step=4", f"--out={tmp_path / 'out'}"]) == 0
    out = capsys.readouterr().out
    assert "at step 4" in out
    assert "240 faces of 60 identities, 5 splits" in out
    two = [f"--embedder={run}", f"--embedder={tmp_path / 'e.npz'}"]
    np.savez(tmp_path / "e.npz", embeddings=np.eye(2), names=["a", "b"])
    assert "--data is needed" in refused(capsys, "evaluate", "holdout", *two)
    assert "no --embedder is a run" in refused(capsys, "evaluate", "holdout", two[1], "--step=4", f"--data={tmp_path}")


def test_bad_images_are_named_and_skipped(tmp_path, network, capsys):
    for person in range(4):
        (tmp_path / "faces" / f"p{person}").mkdir(parents=True)
        for image in range(3):
            (tmp_path / "faces" / f"p{person}" / f"{image}.png").write_bytes(picture(person * 3 + image))
    (tmp_path / "faces" / "p1" / "0.png").write_bytes(b"no image")
    (tmp_path / "faces" / "p2" / "1.png").write_bytes(b"")
    (tmp_path / "faces" / "p3" / "3.cr2").write_bytes(b"raw")
    common = [f"--embedder={network}", f"--data={tmp_path / 'faces'}"]
    assert main(["evaluate", "identify", *common, f"--out={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().out
    assert "2 images left out: p1/0.png (not an image of a known format), p2/1.png (empty file)" in said
    listed = tmp_path / "out" / "identify_rejected.txt"
    assert f"2 photographs were passed over; listed in {listed}" in said
    assert listed.read_text() == "p1/0.png\tnot an image of a known format\np2/1.png\tempty file\n"
    assert "other files passed over: 1 .cr2" in said
    assert main(["evaluate", "compact", *common, "--far", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "int8, 4 bytes" in said
    assert "2 photographs were passed over; --out=FOLDER lists them" in said
    for file in (tmp_path / "faces").rglob("*.png"):
        file.write_bytes(b"")
    assert "None of the 12 images can be used" in refused(capsys, "evaluate", "cluster", *common)


def test_a_prepared_dataset_is_measured_as_its_folder_is(tmp_path, photos, capsys):
    linear_network(tmp_path / "net.onnx", (32, 32), "nchw", None)
    assert main(["prepare", "--crop=none", "--workers=0", str(photos), str(tmp_path / "faces")]) == 0
    found = []
    for data in (photos, tmp_path / "faces"):
        where = [f"--data={data}", f"--out={tmp_path / 'out'}"]
        assert main(["evaluate", "photos", f"--embedder=onnx:{tmp_path / 'net.onnx'}", *where, "--far", "0.1"]) == 0
        found.append(json.loads((tmp_path / "out" / "photos.json").read_text())["embedders"][0]["result"])
    for key in ("faces", "identities", "same_pairs", "different_pairs"):
        assert found[0][key] == found[1][key]
    # Prepared faces may have been stored anew, so that pixels differ a little.
    assert found[0]["area"] == pytest.approx(found[1]["area"], abs=0.05)


def test_what_was_embedded_is_not_embedded_again(tmp_path, network, monkeypatch):
    monkeypatch.setattr(embedding, "PART", 4)
    embedder = open_embedder(network)
    files = [picture(seed) for seed in range(10)]
    files[5] = b""
    read = []
    images = Images([str(i) for i in range(10)], lambda i: read.append(i) or files[i], "these")
    first = embed_images(embedder, images, FaceCutter("none"), keep=tmp_path / "kept")
    assert sorted(read) == list(range(10))
    assert first.rejected == (("5", "empty file"),)
    parts = sorted((tmp_path / "kept").rglob("*.npz"))
    parts[1].write_bytes(b"damaged")
    read.clear()
    again = embed_images(embedder, images, FaceCutter("none"), keep=tmp_path / "kept")
    assert sorted(read) == [4, 5, 6, 7]
    np.testing.assert_array_equal(first.points, again.points)
    np.testing.assert_array_equal(first.usable, again.usable)
    assert again.rejected == first.rejected


def test_bad_input_is_refused_in_one_sentence(tmp_path, photos, network, capsys):
    np.savez(tmp_path / "e.npz", embeddings=np.eye(2), names=["a/1", "b/1"])
    file = f"--embedder={tmp_path / 'e.npz'}"
    assert "no embedding of 64 of 64 faces" in refused(capsys, "evaluate", "photos", file, f"--data={photos}")
    assert "holds embeddings and no network" in refused(capsys, "evaluate", "robustness", file, f"--data={photos}")
    assert "does not exist" in refused(capsys, "evaluate", "photos", file, "--data=none")
    assert "cannot be read" in refused(capsys, "evaluate", "pairs", file, "--data=none")
    (tmp_path / "x").write_text("")
    assert "cannot be made" in refused(
        capsys, "evaluate", "photos", file, f"--data={photos}", f"--out={tmp_path / 'x'}"
    )
    (tmp_path / "alone" / "a").mkdir(parents=True)
    for name in ("1.png", "2.png"):
        (tmp_path / "alone" / "a" / name).write_bytes(picture(len(name)))
    one = [f"--embedder={network}", f"--data={tmp_path / 'alone'}"]
    assert "alone shows 1 people, 1 of them with two faces" in refused(capsys, "evaluate", "photos", *one)
    assert "1 of 1 identities" in refused(capsys, "evaluate", "holdout", *one)
    assert "show 1 identities" in refused(capsys, "evaluate", "cluster", *one)
    assert "1 of 1 identities have two faces" in refused(capsys, "evaluate", "identify", *one)
    for protocol, options, words in (
        ("photos", ["--far", "2"], "must lie in (0, 1]"),
        ("robustness", ["--far", "0"], "must lie in (0, 1]"),
        ("identify", ["--false-alarms", "0.1", "2"], "must lie in (0, 1]"),
        ("holdout", ["--splits", "0"], "--splits=0"),
        ("cluster", ["--threshold", "inf"], "between 0 and 4"),
        ("cluster", ["--threshold", "nan"], "between 0 and 4"),
        ("lfw", ["--pairs=p.txt", "--threshold-crop=tight"], "--threshold-crop is of --threshold-pairs"),
    ):
        # Refused before any embedder is opened.
        assert words in refused(capsys, "evaluate", protocol, "--embedder=nowhere", f"--data={photos}", *options)
    with pytest.raises(InputError, match="no crop 'round'"):
        FaceCutter("round")
