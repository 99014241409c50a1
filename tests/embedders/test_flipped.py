"""The mean of the points of an image and its mirror image, which is never mistaken for a single point."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facenet_jax import FaceEmbedder
from facenet_jax.cli import main
from facenet_jax.embedders import FlippedEmbedder, is_run, network_of, open_embedder, with_flip
from facenet_jax.embedders.base import Embedder
from facenet_jax.errors import InputError
from networks import linear_network, saved_run

IMAGES = np.random.default_rng(0).integers(0, 256, (70, 8, 6, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A network in an ONNX file."""
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    linear_network(path, (8, 6), "nhwc", None)
    return f"onnx:{path}"


@pytest.fixture(scope="module")
def both(spec):
    return open_embedder(spec), open_embedder(f"flip:{spec}")


def mean_of(points, mirrored):
    """The mean on the unit sphere, in float64."""
    total = points.astype(np.float64) + mirrored.astype(np.float64)
    return total / np.sqrt((total**2).sum(axis=1))[:, None]


def test_it_is_the_mean_of_both_on_the_unit_sphere(both):
    single, flipped = both
    assert isinstance(flipped, Embedder)
    points = flipped.embed(IMAGES)  # more than one batch
    assert (points.shape, points.dtype) == ((70, 4), np.float32)
    np.testing.assert_allclose(points, mean_of(single.embed(IMAGES), single.embed(IMAGES[:, :, ::-1])), atol=1e-6)
    assert np.abs(points - single.embed(IMAGES)).max() > 0.1
    assert flipped.embed(IMAGES[:0]).shape[0] == 0


@given(arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(8), st.just(6), st.just(3))))
def test_a_face_and_its_mirror_image_have_the_same_point(both, images):
    flipped = both[1]
    try:
        points = flipped.embed(images)
    except InputError:  # a network without bias has no point for an image that is its mean grey everywhere
        return
    np.testing.assert_array_equal(flipped.embed(images[:, :, ::-1]), points)


def test_a_run_is_embedded_on_any_number_of_devices(tmp_path):
    run = saved_run(tmp_path / "run")
    single, flipped = open_embedder(run, step=4), open_embedder(f"flip:{run}", step=4)
    images = np.random.default_rng(1).integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)
    expected = mean_of(single.embed(images), single.embed(images[:, :, ::-1]))
    np.testing.assert_allclose(flipped.embed(images), expected, atol=1e-6)
    assert flipped.name == f"{run} at step 4 with flip"
    assert (flipped.size, flipped.batch, flipped.crop) == (single.size, single.batch, single.crop)
    assert is_run(f"flip:{run}")


def test_opposite_points_are_refused(both):
    class Opposite:
        name, size, batch, remarks, flipped, crop, digest = "opposite", (8, 6), 4, [], False, "none", "0"
        sign = 1.0

        def embed(self, images):
            self.sign = -self.sign
            return np.full((len(images), 4), 0.5 * self.sign, np.float32)

    with pytest.raises(InputError, match="3 of 3 vectors are not finite or zero"):
        FlippedEmbedder(Opposite()).embed(IMAGES[:3])


def test_name_and_digest_differ(both):
    single, flipped = both
    assert flipped.digest != single.digest
    assert flipped.name == f"{single.name} with flip"
    assert network_of(flipped).digest == network_of(single).digest == single.digest
    assert with_flip("sface") == with_flip("flip:sface") == "flip:sface"
    assert with_flip("sface", False) == "sface"


def test_flip_of_flip_and_of_a_file_of_embeddings_are_refused(spec, tmp_path):
    with pytest.raises(InputError, match="takes the mean with the mirror image already; leave flip out"):
        open_embedder(f"flip:flip:{spec}")
    np.savez(tmp_path / "e.npz", embeddings=np.eye(2), names=np.array(["a/1", "b/1"]))
    with pytest.raises(InputError, match="holds embeddings and no network"):
        open_embedder(f"flip:{tmp_path / 'e.npz'}")
    with pytest.raises(InputError, match="says which checkpoint of a run"):
        open_embedder(f"flip:{spec}", step=3)


def test_from_python(spec):
    faces = FaceEmbedder.load(spec, flip=True)
    np.testing.assert_array_equal(faces.embed(IMAGES[0]), faces.embed(IMAGES[0, :, ::-1]))
    assert faces.get_params()["flip"] is True
    assert "flip=True" in repr(faces)
    np.testing.assert_array_equal(FaceEmbedder.load(f"flip:{spec}").embed(IMAGES[:3]), faces.embed(IMAGES[:3]))
    assert np.abs(faces.set_params(flip=False).embed(IMAGES[0]) - faces.embed(IMAGES[0, :, ::-1])).max() > 0.1


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_file_of_embeddings_records_the_flip(tmp_path, photos, spec, suffix, capsys):
    pytest.importorskip("pyarrow")
    out = tmp_path / f"faces.{suffix}"
    assert main(["embed", str(photos), "-o", str(out), "--embedder", spec, "--crop=none", "--flip"]) == 0
    assert f"by {spec} with flip" in capsys.readouterr().out
    table, flipped = open_embedder(str(out)), open_embedder(f"flip:{spec}")
    assert table.name == f"{out} with flip"
    assert main(["embed", str(photos), "-o", str(out), "--embedder", spec, "--crop=none"]) == 0
    single = open_embedder(str(out))
    assert single.name == str(out)
    assert single.digest != table.digest
    assert np.abs(single.points - table.points).max() > 0.01
    assert flipped.embed(IMAGES[:1]).shape[1] == table.points.shape[1]


def test_an_index_records_the_flip(tmp_path, photos, spec, capsys):
    pytest.importorskip("faiss")
    index, results, one = tmp_path / "index", tmp_path / "results", os.fspath(photos / "person 00" / "0.png")
    common = ["--embedder", spec, "--crop=none"]

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, error = capsys.readouterr()
        return code, out if code == 0 else error.strip().splitlines()[-1]

    evaluate = ["evaluate", "identify", *common, f"--data={photos}", f"--out={results}", "--false-alarms=0.2"]
    assert run(*evaluate)[0] == 0
    enroll = ["enroll", photos, index, *common, "--flip", "--evaluation", results / "identify.json"]
    code, error = run(*enroll)
    assert code == 2
    assert f"and not of {spec} with flip as it is now (its digest is another)" in error
    assert f"--embedder flip:{spec}" in error

    assert run(*evaluate, "--flip")[0] == 0
    names = [entry["name"] for entry in json.loads((results / "identify.json").read_text())["embedders"]]
    assert names == [spec, f"{spec} with flip"]
    assert run(*enroll)[0] == 0
    manifest = json.loads((index / "index.json").read_text())["embedder"]
    assert (manifest["spec"], manifest["name"]) == (f"flip:{spec}", f"{spec} with flip")

    for flags in ([], ["--flip"], [*common, "--flip"], ["--embedder", f"flip:{spec}"]):
        code, out = run("identify", one, index, *flags, "--accept-rate=1")
        assert code == 0, out
        assert f"{one:<4}  person 00" in out
    code, error = run("identify", one, index, *common, "--accept-rate=1")
    assert code == 2
    assert f"was enrolled with {spec} with flip, and {spec} is another embedder" in error

    single = tmp_path / "single"
    assert run("enroll", photos, single, *common, "--evaluation", results / "identify.json")[0] == 0
    code, error = run("identify", one, single, "--flip", "--accept-rate=1")
    assert code == 2
    assert f"was enrolled with {spec}, and {spec} with flip is another embedder" in error
