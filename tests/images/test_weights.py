"""The published files of the detector and of SFace."""

from importlib import metadata

import pytest

from facenet_jax.errors import InputError
from facenet_jax.images import weights
from facenet_jax.images.weights import SFACE, YUNET, Weights, read_weights


@pytest.mark.parametrize("which", [YUNET, SFACE])
def test_the_wheels_files_are_the_published_ones(which):
    pytest.importorskip("cv2")
    assert len(read_weights(which)) > 100_000


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path):
    pytest.importorskip("cv2")
    with pytest.raises(InputError, match="is not the published file"):
        read_weights(Weights("YuNet", YUNET.file, SFACE.sha256))
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(b"mine")
    assert read_weights(YUNET, mine) == b"mine"
    with pytest.raises(InputError, match=r"gone\.onnx cannot be read"):
        read_weights(YUNET, tmp_path / "gone.onnx")


def test_a_missing_wheel_is_refused_in_one_sentence(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(weights.metadata, "distribution", missing)
    with pytest.raises(InputError, match="make setup EXTRAS=align in the repository"):
        read_weights(YUNET)
