"""The protocols through the command line, on drawn faces, against plain loops."""

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facenet_jax.cli import main
from facenet_jax.config import flatten
from facenet_jax.data.folder import FolderSource
from facenet_jax.embedders import embedding, open_embedder
from facenet_jax.embedders.embedding import Images, embed_images
from facenet_jax.errors import InputError
from facenet_jax.evaluation.folds import accuracy_over_folds, best_threshold
from facenet_jax.evaluation.pair_lists import read_lfw_pairs
from facenet_jax.evaluation.request import Request, open_folder, without
from facenet_jax.training.faces import open_faces
from facenet_jax.training.trained import own_held_out
from facenet_jax.training.trained_on import trained_on
from networks import linear_network, saved_run


def refused(capsys, *arguments):
    """The one sentence with which a command is refused."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


def picture(seed, size=(8, 6)):
    """PNG bytes of a made-up image."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def distance(a, b):
    return float(np.sum((a.astype(np.float64) - b) ** 2))


@pytest.fixture
def network(tmp_path):
    """The spec of a linear ONNX network."""
    linear_network(tmp_path / "net.onnx", (8, 6), "nchw", None)
    return f"onnx:{tmp_path / 'net.onnx'},scale=1,mean=128"


@pytest.fixture
def lfw(tmp_path):
    """LFW's layout: 12 people with 3 images, two lists of pairs, and embeddings in which people are near."""
    rng = np.random.default_rng(1)
    names, points = [], []
    for person in range(12):
        name = f"Person_{person}"
        (tmp_path / "lfw" / name).mkdir(parents=True)
        centre = rng.normal(size=8)
        for image in (1, 2, 3):
            (tmp_path / "lfw" / name / f"{name}_{image:04d}.jpg").write_bytes(picture(10 * person + image))
            names.append(f"{name}/{name}_{image:04d}.jpg")
            points.append(centre + 0.7 * rng.normal(size=8))
    np.savez(tmp_path / "e.npz", embeddings=points, names=names)
    lines = []
    for fold in range(6):
        a, b = f"Person_{2 * fold}", f"Person_{2 * fold + 1}"
        lines += [f"{a}\t1\t2", f"{b}\t2\t3", f"{a}\t1\t{b}\t1", f"{a}\t2\t{b}\t3"]
    (tmp_path / "pairs.txt").write_text("6\t2\n" + "\n".join(lines) + "\n")
    (tmp_path / "train.txt").write_text("2\n" + "\n".join(lines[:4]) + "\n")
    (tmp_path / "test.txt").write_text("2\n" + "\n".join(lines[4:8]) + "\n")
    return tmp_path


def test_lfw_view_2(lfw, capsys):
    out = lfw / "out"
    common = [f"--data={lfw / 'lfw'}", f"--pairs={lfw / 'pairs.txt'}", f"--out={out}"]
    assert main(["evaluate", "lfw", f"--embedder={lfw / 'e.npz'}", *common, "--far", "0.2"]) == 0
    assert "over 6 folds" in capsys.readouterr().out
    document = json.loads((out / "lfw.json").read_text())
    result = document["embedders"][0]["result"]
    table = open_embedder(str(lfw / "e.npz"))
    listed = read_lfw_pairs(lfw / "pairs.txt")
    points = table.look_up(listed.keys)
    distances = np.array([distance(points[i], points[j]) for i, j in listed.pairs], np.float32)
    expected = accuracy_over_folds(distances, listed.same, listed.fold)
    assert result["accuracy"] == expected.accuracy
    assert result["standard_error"] == expected.standard_error
    assert result["thresholds"] == pytest.approx(expected.thresholds, abs=1e-5)
    assert (result["same_pairs"], result["different_pairs"], result["faces"]) == (12, 12, 30)
    for picture_file in ("lfw_roc.png", "lfw_distances.png", "lfw_folds.png"):
        assert (out / picture_file).stat().st_size > 5000
    missing = lfw / "lfw" / "Person_3" / "Person_3_0003.jpg"
    missing.unlink()
    error = refused(capsys, "evaluate", "lfw", f"--embedder={lfw / 'e.npz'}", *common)
    assert f"1 of the 30 images that the pairs name are missing, the first {missing}" in error


def test_lfw_view_1(lfw, capsys):
    arguments = [f"--embedder={lfw / 'e.npz'}", f"--data={lfw / 'lfw'}", f"--pairs={lfw / 'test.txt'}"]
    assert main(["evaluate", "lfw", *arguments, f"--threshold-pairs={lfw / 'train.txt'}", f"--out={lfw / 'out'}"]) == 0
    result = json.loads((lfw / "out" / "lfw-view1.json").read_text())["embedders"][0]["result"]
    sides = []
    for name in ("train.txt", "test.txt"):
        listed = read_lfw_pairs(lfw / name)
        points = open_embedder(str(lfw / "e.npz")).look_up(listed.keys)
        sides.append((np.array([distance(points[i], points[j]) for i, j in listed.pairs], np.float32), listed.same))
    threshold = best_threshold(*sides[0])
    assert result["threshold"] == pytest.approx(threshold, abs=1e-5)
    assert result["accuracy"] == np.mean((sides[1][0] <= threshold) == sides[1][1])


def test_two_embedders_are_compared_on_the_same_pairs(lfw, network, capsys):
    both = [f"--embedder={lfw / 'e.npz'}", f"--embedder={network}"]
    assert (
        main(["evaluate", "lfw", *both, f"--data={lfw / 'lfw'}", f"--pairs={lfw / 'pairs.txt'}", "--far", "0.2"]) == 0
    )
    out = capsys.readouterr().out
    assert "exact McNemar test" in out
    assert "paired bootstrap over identities" in out
    assert "were normalised" in out
    assert "was given twice" in refused(capsys, "evaluate", "photos", both[0], both[0], f"--data={lfw / 'lfw'}")


def test_an_image_that_one_embedder_cannot_use_is_left_out_for_both(lfw, network, tmp_path):
    name = min(file for file in (lfw / "lfw").rglob("*") if file.is_file())
    name.write_bytes(b"torn")
    both = [f"--embedder={lfw / 'e.npz'}", f"--embedder={network}"]  # the file of embeddings has it all the same
    arguments = [f"--data={lfw / 'lfw'}", f"--pairs={lfw / 'pairs.txt'}", f"--out={tmp_path / 'out'}", "--far", "0.2"]
    assert main(["evaluate", "lfw", *both, *arguments]) == 0
    document = json.loads((tmp_path / "out" / "lfw.json").read_text())
    of_file, of_network = (entry["result"] for entry in document["embedders"])
    assert of_file["same_pairs"] == of_network["same_pairs"]
    assert of_file["different_pairs"] == of_network["different_pairs"]
    assert any("McNemar" in comparison["test"] for comparison in document["comparisons"])


def test_bin_files(tmp_path, network, capsys):
    images = [picture(seed) for seed in (1, 1, 2, 3, 4, 4, 5, 6)]
    (tmp_path / "a.bin").write_bytes(pickle.dumps((images, [True, False, True, False]), protocol=4))
    arguments = [f"--embedder={network}", f"--data={tmp_path / 'a.bin'}", f"--out={tmp_path / 'out'}", "--far", "0.5"]
    assert main(["evaluate", "pairs", *arguments]) == 0
    result = json.loads((tmp_path / "out" / "pairs.json").read_text())["embedders"][0]["result"]
    assert (result["accuracy"], result["rates"][0]["val"]) == (1.0, 1.0)


def test_results_of_other_faces_in_one_folder_stand_beside_each_other(lfw, capsys):
    out, pairs = lfw / "out", (lfw / "pairs.txt").read_text()
    (lfw / "other.txt").write_text(pairs)
    common = ["evaluate", "lfw", f"--embedder={lfw / 'e.npz'}", f"--data={lfw / 'lfw'}", f"--out={out}", "--far", "0.2"]
    for list_of_pairs in ("pairs.txt", "other.txt", "pairs.txt"):  # the last in place of the first
        assert main([*common, f"--pairs={lfw / list_of_pairs}"]) == 0
    said = {file.name: json.loads(file.read_text())["pairs"] for file in out.glob("*.json")}
    assert said == {"lfw.json": str(lfw / "pairs.txt"), "lfw-2.json": str(lfw / "other.txt")}
    assert (out / "lfw-2_roc.png").is_file()
    assert main(["report", str(out), "-o", str(lfw / "report.html")]) == 0


class _SeesLight:
    """A detector that finds a face in every image that is not black."""

    def detect(self, image):
        from facenet_jax.data.detector import Detection

        if image.max() == 0:
            return []
        landmarks = np.array([[2.0, 2], [4, 2], [3, 4], [2, 6], [4, 6]])
        return [Detection((0.0, 0.0, 6.0, 8.0), landmarks, 1.0)]


def test_youtube_faces(tmp_path, network, monkeypatch, capsys):
    monkeypatch.setattr(embedding, "FaceDetector", _SeesLight)
    black = io.BytesIO()
    Image.new("RGB", (6, 8)).save(black, "PNG")
    videos = {"Ada/0": "xxoxx", "Ada/1": "xoxo", "Bob/0": "xxx", "Cy/2": "ooxo", "Cy/3": "oo"}
    frames = {}
    for number, (video, kinds) in enumerate(videos.items()):
        (tmp_path / video).mkdir(parents=True)
        for frame, kind in enumerate(kinds, 98):  # in the order of numbers 98, 99, 100, not of names
            data = picture(100 * number + frame) if kind == "x" else black.getvalue()
            (tmp_path / video / f"0.{frame}.png").write_bytes(data)
            if kind == "x":
                frames.setdefault(video, []).append(np.array(Image.open(io.BytesIO(data))))
    rows = ["1, Ada/0, Ada/1, 1", "1, Ada/0, Bob/0, 0", "2, Ada/0, Ada/1, 1", "2, Ada/1, Cy/2, 0", "2, Bob/0, Cy/3, 0"]
    (tmp_path / "splits.txt").write_text("\n".join(rows))
    arguments = [f"--embedder={network}", f"--data={tmp_path}", f"--pairs={tmp_path / 'splits.txt'}", "--frames=2"]
    assert main(["evaluate", "ytf", *arguments, "--far", "0.5", f"--out={tmp_path / 'out'}"]) == 0
    assert "images left out" in capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "ytf.json").read_text())
    result = document["embedders"][0]["result"]
    assert (result["same_pairs"], result["different_pairs"]) == (2, 2)
    assert ["Cy/3", "no frame with a face"] in document["embedders"][0]["bad"]
    embedder = open_embedder(network)
    points = {video: embedder.embed(np.stack(some[:2])) for video, some in frames.items()}
    mean = lambda a, b: np.mean([distance(x, y) for x in points[a] for y in points[b]])  # noqa: E731
    same, other, last = mean("Ada/0", "Ada/1"), mean("Ada/0", "Bob/0"), mean("Ada/1", "Cy/2")
    folds = [best_threshold(np.float32(d), np.array([True, False])) for d in ([same, last], [same, other])]
    assert result["thresholds"] == pytest.approx(folds, abs=1e-5)


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


def test_videos_are_looked_at_to_their_ends(tmp_path, network, monkeypatch, capsys):
    monkeypatch.setattr(embedding, "FaceDetector", _SeesLight)
    black = io.BytesIO()
    Image.new("RGB", (6, 8)).save(black, "PNG")
    videos = {"Ada/0": "x", "Ada/1": "ooox", "Bob/0": "oox", "Cy/2": "oooo"}
    for number, (video, kinds) in enumerate(videos.items()):
        (tmp_path / video).mkdir(parents=True)
        for frame, kind in enumerate(kinds):
            data = picture(100 * number + frame) if kind == "x" else black.getvalue()
            (tmp_path / video / f"0.{frame}.png").write_bytes(data)
    rows = ["1, Ada/0, Ada/1, 1", "1, Ada/0, Bob/0, 0", "2, Ada/0, Ada/1, 1", "2, Ada/1, Bob/0, 0", "2, Bob/0, Cy/2, 0"]
    (tmp_path / "splits.txt").write_text("\n".join(rows))
    command = ["evaluate", "ytf", f"--embedder={network}", f"--data={tmp_path}", f"--pairs={tmp_path / 'splits.txt'}"]
    assert main([*command, "--frames=1", "--far", "0.5", f"--out={tmp_path / 'out'}"]) == 0
    (entry,) = json.loads((tmp_path / "out" / "ytf.json").read_text())["embedders"]
    assert (entry["result"]["same_pairs"], entry["result"]["different_pairs"]) == (2, 2)
    nobody = [
        f"{video}/0.{n}.png" for video, frames in (("Ada/1", 3), ("Bob/0", 2), ("Cy/2", 4)) for n in range(frames)
    ]
    assert sorted(key for key, _ in entry["bad"]) == sorted(["Cy/2", *nobody])
    assert "--frames=0" in refused(capsys, *command, "--frames=0")
    for file in tmp_path.glob("*/*/0.*.png"):
        file.write_bytes(black.getvalue())
    assert "images can be used" in refused(capsys, *command, "--frames=1")
    monkeypatch.setattr(embedding, "FaceDetector", None)
    np.savez(tmp_path / "e.npz", embeddings=np.eye(2), names=["a/1", "b/1"])
    command[2] = f"--embedder={tmp_path / 'e.npz'}"
    assert "holds embeddings and no network" in refused(capsys, *command)


def begun(run, digest=None):
    """Writes the run.json of a saved run, as if it had been trained on faces of this digest (None: on those there)."""
    config = open_embedder(run).config
    digests = {"train": digest or open_faces(config).digest, "held_out": ""}
    (Path(run) / "run.json").write_text(json.dumps({"config": flatten(config), "digests": digests}))
    return run


def said_of(embedder):
    """(the names that an embedder knows, what is remarked of that)."""
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
    # A directory may hold another run by now, which started from its own child.
    (tmp_path / "eldest" / "run.json").unlink()
    (tmp_path / "eldest").rename(tmp_path / "gone")
    embedder.workdir.rename(eldest)
    embedder.workdir = Path(eldest)
    names, (remark,) = said_of(embedder)
    assert names == []
    assert "that it started from cannot be told" in remark
    assert "started from this one" in remark
    embedder.workdir, embedder.remarks = Path(child), []
    names, (remark,) = said_of(embedder)
    assert "that it started from cannot be told" in remark
    assert "has no run.json" in remark


def test_faces_that_have_changed_since_are_remarked(tmp_path, photos):
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
    folder = open_folder(photos)
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
    assert "no --embedder is one" in refused(capsys, "evaluate", "holdout", two[1], "--step=4", f"--data={tmp_path}")


def test_bad_images_are_named_and_passed_over(tmp_path, network, capsys):
    for person in range(4):
        (tmp_path / "faces" / f"p{person}").mkdir(parents=True)
        for image in range(3):
            (tmp_path / "faces" / f"p{person}" / f"{image}.png").write_bytes(picture(person * 3 + image))
    (tmp_path / "faces" / "p1" / "0.png").write_bytes(b"no image")
    (tmp_path / "faces" / "p2" / "1.png").write_bytes(b"")
    common = [f"--embedder={network}", f"--data={tmp_path / 'faces'}"]
    assert main(["evaluate", "identify", *common, f"--out={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().out
    assert "2 images left out: p1/0.png (not a JPEG, PNG, PPM/PGM or WebP image), p2/1.png (empty file)" in said
    assert main(["evaluate", "compact", *common, "--far", "0.5"]) == 0
    assert "int8, 4 bytes" in capsys.readouterr().out
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
    first = embed_images(embedder, images, keep=tmp_path / "kept")
    assert sorted(read) == list(range(10))
    assert first.bad == (("5", "empty file"),)
    parts = sorted((tmp_path / "kept").rglob("*.npz"))
    parts[1].write_bytes(b"damaged")
    read.clear()
    again = embed_images(embedder, images, keep=tmp_path / "kept")
    assert sorted(read) == [4, 5, 6, 7]
    np.testing.assert_array_equal(first.points, again.points)
    np.testing.assert_array_equal(first.valid, again.valid)
    assert again.bad == first.bad


def test_bad_input_is_said_in_a_sentence(tmp_path, photos, network, capsys):
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
    assert "1 of 1 identities" in refused(capsys, "evaluate", "holdout", *one)
    assert "show 1 identities" in refused(capsys, "evaluate", "cluster", *one)
    assert "1 of 1 identities have two faces" in refused(capsys, "evaluate", "identify", *one)
    for protocol, options, words in (
        ("photos", ["--far", "2"], "must lie in (0, 1]"),
        ("robustness", ["--far", "0"], "must lie in (0, 1]"),
        ("identify", ["--false-alarms", "0.1", "2"], "--false-alarms"),
        ("holdout", ["--splits", "0"], "--splits=0"),
        ("cluster", ["--threshold", "inf"], "between 0 and 4"),
        ("cluster", ["--threshold", "nan"], "between 0 and 4"),
        ("lfw", ["--pairs=p.txt", "--threshold-crop=tight"], "--threshold-crop is of --threshold-pairs"),
    ):
        # Said before any embedder is opened.
        assert words in refused(capsys, "evaluate", protocol, "--embedder=nowhere", f"--data={photos}", *options)
    with pytest.raises(InputError, match="no crop 'round'"):
        embedding.Cutter("round")
