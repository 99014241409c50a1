"""The protocols on published pairs, run as commands on synthetic pictures and compared with plain loops."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from evaluating import distance, picture, refused
from facenet_jax.cli import main
from facenet_jax.embedders import open_embedder
from facenet_jax.evaluation.folds import accuracy_over_folds, best_threshold
from facenet_jax.evaluation.protocols.lfw import read_lfw_pairs
from facenet_jax.images import cut


@pytest.fixture
def lfw(tmp_path):
    """LFW's layout: 12 people with 3 images, lists of pairs, and embeddings that are closer within a person."""
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
    both = [f"--embedder={lfw / 'e.npz'}", f"--embedder={network}"]  # the file has an embedding of it
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


def test_results_of_other_pairs_in_one_folder_do_not_overwrite_each_other(lfw, capsys):
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
    """A stand-in for the detector: finds a face in every image that is not black."""

    digest = "light"

    def __init__(self, path=None):
        assert path is None

    def detect(self, image):
        from facenet_jax.images.detect import Detection

        if image.max() == 0:
            return []
        landmarks = np.array([[2.0, 2], [4, 2], [3, 4], [2, 6], [4, 6]])
        return [Detection((0.0, 0.0, 6.0, 8.0), landmarks, 1.0)]


def test_youtube_faces(tmp_path, network, monkeypatch, capsys):
    monkeypatch.setattr(cut, "FaceDetector", _SeesLight)
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


def test_videos_are_searched_to_their_end(tmp_path, network, monkeypatch, capsys):
    monkeypatch.setattr(cut, "FaceDetector", _SeesLight)
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
    monkeypatch.setattr(cut, "FaceDetector", None)
    np.savez(tmp_path / "e.npz", embeddings=np.eye(2), names=["a/1", "b/1"])
    command[2] = f"--embedder={tmp_path / 'e.npz'}"
    assert "holds embeddings and no network" in refused(capsys, *command)
