"""Decoding whole photographs."""

import io

import numpy as np
import pytest
from PIL import Image

from facenet_jax.images.decode import BadFace, Reason, decode_whole

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 20, 3)).astype(np.uint8)


def encoded(image, suffix, **options):
    stream = io.BytesIO()
    image.save(stream, suffix, **options)
    return stream.getvalue()


@pytest.mark.parametrize("suffix", ["png", "ppm"])
def test_no_pixel_is_changed(suffix):
    np.testing.assert_array_equal(decode_whole(encoded(Image.fromarray(PIXELS), suffix)), PIXELS)


@pytest.mark.parametrize("orientation", range(10))
def test_the_image_is_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode_whole(encoded(Image.fromarray(PIXELS), "png", exif=exif))
    turned = 5 <= orientation <= 8
    assert upright.shape == ((20, 30, 3) if turned else (30, 20, 3))
    assert sorted(upright.ravel()) == sorted(PIXELS.ravel())  # no pixel is lost


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_metadata_loses_no_face():
    data = encoded(Image.fromarray(PIXELS), "jpeg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")
    assert decode_whole(data).shape == PIXELS.shape


@pytest.mark.parametrize(
    "segment",
    [b"\xff\xe2\0\x0eICC_PROFILE\0", b"\xff\xee\0\x07Adobe", b"\xff\xe0\0\x07JFIF\0"],
    ids=["ICC", "Adobe", "JFIF"],
)
def test_a_segment_cut_short_loses_no_face(segment):
    jpeg = encoded(Image.fromarray(PIXELS), "jpeg", quality=95)
    broken = jpeg[:2] + segment + jpeg[2:]
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(broken))
    np.testing.assert_array_equal(decode_whole(broken), decode_whole(jpeg))
    with pytest.raises(BadFace) as caught:
        decode_whole(broken, max_side=25)
    assert caught.value.reason is Reason.TOO_LARGE


def test_reasons():
    def reason(data, **limits):
        with pytest.raises(BadFace) as caught:
            decode_whole(data, **limits)
        return caught.value.reason

    jpeg = encoded(Image.fromarray(PIXELS), "jpeg")
    assert reason(b"") is Reason.EMPTY
    assert reason(b"GIF89a no") is Reason.UNREADABLE
    assert reason(jpeg[: len(jpeg) // 2]) is Reason.TRUNCATED
    assert reason(jpeg, max_side=25) is Reason.TOO_LARGE
    assert reason(jpeg, max_pixels=500) is Reason.TOO_LARGE
    bomb = encoded(Image.new("1", (30_000, 30_000)), "png")
    assert len(bomb) < 2**20
    assert reason(bomb) is Reason.TOO_LARGE
