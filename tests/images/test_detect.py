"""The published detector, on drawn faces."""

import pickle
import sys

import numpy as np
import pytest

from facenet_jax.datasets.drawn import render
from facenet_jax.errors import InputError
from facenet_jax.images.detect import FaceDetector

cv2 = pytest.importorskip("cv2")


def scene(*places, shape=(300, 400)):
    """A grey picture with a drawn face at each (row, column, side)."""
    image = np.full((*shape, 3), 128, np.uint8)
    for identity, (row, column, side) in enumerate(places):
        image[row : row + side, column : column + side] = render(7, identity, 0, (side, side))
    return image


def middle(detection):
    x, y, width, height = detection.box
    return x + width / 2, y + height / 2


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


def test_faces_are_found_where_they_are(detector):
    image = scene((20, 30, 160), (140, 240, 130))
    found = sorted(detector.detect(image), key=middle)
    assert len(found) == 2
    for detection, (x, y) in zip(found, [(110, 100), (305, 205)], strict=True):
        assert np.abs(np.subtract(middle(detection), (x, y))).max() < 25
        left, right, nose, mouth_left, mouth_right = detection.landmarks
        assert left[0] < nose[0] < right[0]
        assert mouth_left[0] < mouth_right[0]
        assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
        assert 0.6 <= detection.score <= 1


def test_nothing_is_found_where_there_is_nothing(detector):
    assert detector.detect(scene()) == []
    assert detector.detect(np.zeros((1, 1, 3), np.uint8)) == []


def test_large_pictures_give_the_same_face_in_their_own_pixels(detector):
    small = scene((60, 100, 160))
    (at_small,) = detector.detect(small)
    (at_large,) = detector.detect(np.kron(small, np.ones((4, 4, 1), np.uint8)))
    np.testing.assert_allclose(np.array(at_large.box) / 4, at_small.box, atol=8)
    np.testing.assert_allclose((at_large.landmarks + 0.5) / 4 - 0.5, at_small.landmarks, atol=12)


def test_colours_are_red_first(detector):
    image = scene((60, 100, 160))
    bgr = np.ascontiguousarray(image[..., ::-1])
    net = cv2.FaceDetectorYN.create(
        "onnx", np.frombuffer(detector._weights, np.uint8), np.zeros(0, np.uint8), (400, 300), 0.6
    )
    reference = net.detect(bgr)[1][0]
    (found,) = detector.detect(image)
    np.testing.assert_allclose(found.box, reference[:4], atol=1e-3)
    np.testing.assert_allclose(found.landmarks.ravel(), reference[4:14], atol=1e-3)


def test_it_works_in_another_process(detector):
    image = scene((60, 100, 160))
    (here,), (there,) = detector.detect(image), pickle.loads(pickle.dumps(detector)).detect(image)
    assert here.box == there.box
    np.testing.assert_array_equal(here.landmarks, there.landmarks)


def test_missing_parts_are_refused_in_one_sentence(tmp_path, monkeypatch):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(InputError, match=r"broken\.onnx is not an ONNX model"):
        FaceDetector(broken)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match="make setup EXTRAS=align in the repository"):
        FaceDetector()


def test_a_model_of_something_else_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 64, 64]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"other\.onnx is not an ONNX model of YuNet"):
        FaceDetector(tmp_path / "other.onnx")
