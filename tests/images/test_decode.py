"""Decoding files of every format to a given size, and the reasons why a file is a bad face."""

import contextlib
import io
import pickle
import struct
import sys
import zlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facenet_jax.images.decode import BadFace, Reason, decode

ROWS, COLUMNS = 24, 18


def gradient(mode: str = "RGB", rows: int = ROWS, columns: int = COLUMNS) -> Image.Image:
    down, across = np.mgrid[0:rows, 0:columns]
    red, green = 255 * down // (rows - 1), 255 * across // (columns - 1)
    return Image.fromarray(np.stack([red, green, 255 - red], -1).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, suffix: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, suffix, **options)
    return stream.getvalue()


def reason(data, **limits) -> Reason:
    with pytest.raises(BadFace) as caught:
        decode(data, (ROWS, COLUMNS), **limits)
    return caught.value.reason


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        (encoded(gradient(), "png"), 0),
        (encoded(gradient(), "ppm"), 0),
        (encoded(gradient(), "webp", lossless=True), 0),
        (encoded(gradient(), "bmp"), 0),
        (encoded(gradient(), "tiff"), 0),
        (encoded(gradient(), "tiff", compression="tiff_lzw"), 0),
        (encoded(gradient("L").convert("RGB"), "gif"), None),
        (encoded(gradient(), "avif", quality=100, subsampling="4:4:4"), 8),
        (encoded(gradient(), "jpeg", quality=95), 40),  # JPEG halves the resolution of colours
        (encoded(gradient(), "jpeg", quality=95, progressive=True, subsampling=0), 8),
    ],
)
def test_formats(data, tolerance, tmp_path):
    expected = np.asarray(gradient() if tolerance is not None else gradient("L").convert("RGB"))
    image = decode(data, (ROWS, COLUMNS))
    assert image.shape == (ROWS, COLUMNS, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert np.abs(image.astype(int) - expected).max() <= (tolerance or 0)
    # A path, whose suffix does not matter.
    (tmp_path / "face.gif").write_bytes(data)
    np.testing.assert_array_equal(decode(tmp_path / "face.gif", (ROWS, COLUMNS)), image)


@pytest.mark.parametrize("suffix", ["png", "ppm", "jpeg", "webp"])
def test_grey_fills_three_channels(suffix):
    image = decode(encoded(gradient("L"), suffix), (ROWS, COLUMNS)).astype(int)
    assert np.ptp(image, axis=-1).max() <= (3 if suffix == "webp" else 0)
    assert np.abs(image[..., 0] - np.asarray(gradient("L"))).max() <= 8


def test_black_and_white():
    image = decode(encoded(gradient("L").point(lambda v: 255 * (v > 99)).convert("1"), "png"), (ROWS, COLUMNS))
    assert set(np.unique(image)) == {0, 255}


def test_sixteen_bits_are_scaled_not_clipped():
    wide = np.linspace(0, 65535, ROWS * COLUMNS).reshape(ROWS, COLUMNS).astype(np.uint16)
    png = encoded(Image.fromarray(wide), "png")
    pgm = b"P5 %d %d 65535\n" % (COLUMNS, ROWS) + wide.astype(">u2").tobytes()
    for data in (png, pgm):
        image = decode(data, (ROWS, COLUMNS))
        np.testing.assert_array_equal(image[..., 1], np.round(wide / 257).astype(np.uint8))
    ten_bits = b"P5 %d %d 1023\n" % (COLUMNS, ROWS) + (wide // 64).astype(">u2").tobytes()
    assert np.abs(decode(ten_bits, (ROWS, COLUMNS))[..., 0] - wide / 257).max() <= 1


def test_palette_transparency_and_cmyk():
    palette = gradient().quantize(64)
    np.testing.assert_array_equal(decode(encoded(palette, "png"), (ROWS, COLUMNS)), np.asarray(palette.convert("RGB")))
    clear = decode(encoded(palette, "png", transparency=bytes(64)), (ROWS, COLUMNS))
    assert clear.max() == 0
    half = gradient("RGBA")
    half.putalpha(128)
    for data in (encoded(half, "png"), encoded(half, "webp", lossless=True, exact=True)):
        composited = decode(data, (ROWS, COLUMNS)).astype(float)
        assert np.abs(composited - np.asarray(gradient(), float) * 128 / 255).max() <= 1
    assert decode(encoded(half.convert("LA"), "png"), (ROWS, COLUMNS)).max() <= 129
    flat = Image.new("RGB", (COLUMNS, ROWS), (200, 100, 50))
    cmyk = decode(encoded(flat.convert("CMYK"), "jpeg", quality=95), (ROWS, COLUMNS)).astype(int)
    assert np.abs(cmyk - [200, 100, 50]).max() <= 8


def turned(image: Image.Image, orientation: int, suffix: str = "png") -> bytes:
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    lossless = {"quality": 100, "subsampling": 0} if suffix == "jpeg" else {}
    exif[0x0112] = orientation
    return encoded(image if undo is None else image.transpose(undo), suffix, exif=exif, **lossless)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    np.testing.assert_array_equal(decode(turned(gradient(), orientation), (ROWS, COLUMNS)), np.asarray(gradient()))
    tiff = decode(turned(gradient(), orientation, "tiff"), (ROWS, COLUMNS))
    np.testing.assert_array_equal(tiff, np.asarray(gradient()))
    jpeg = decode(turned(gradient(), orientation, "jpeg"), (ROWS, COLUMNS)).astype(int)
    assert np.abs(jpeg - np.asarray(gradient())).max() <= 4


def by_pillow(data: bytes, size: tuple[int, int]) -> np.ndarray:
    def refuse(_: bytes) -> None:
        raise ValueError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simplejpeg, "decode_jpeg_header", refuse)
        return decode(data, size)


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    options=st.fixed_dictionaries(
        {"quality": st.integers(5, 100), "progressive": st.booleans(), "optimize": st.booleans()},
        optional={"subsampling": st.integers(0, 2), "keep_rgb": st.just(True), "restart_marker_rows": st.just(1)},
    ),
    seed=st.integers(0, 9),
)
def test_jpegs_have_the_pixels_that_pillow_gives_them(shape, size, mode, options, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    if mode != "RGB" or options.get("subsampling"):
        options.pop("keep_rgb", None)
    data = encoded(Image.fromarray(noise).convert(mode), "jpeg", **options)
    np.testing.assert_array_equal(decode(data, size), by_pillow(data, size))


def test_a_jpeg_of_the_targets_size_is_not_resampled():
    noise = np.random.default_rng(0).integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "jpeg", quality=90)
    np.testing.assert_array_equal(decode(data, (ROWS, COLUMNS)), np.asarray(Image.open(io.BytesIO(data))))


def test_damage_that_pillow_tolerates_loses_no_face():
    data = encoded(gradient(), "jpeg", quality=95)
    scan = data.index(b"\xff\xda")
    odd = data[:scan] + b"\0\0\0" + data[scan:]
    np.testing.assert_array_equal(decode(odd, (ROWS, COLUMNS)), decode(data, (ROWS, COLUMNS)))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_metadata_loses_no_face():
    data = encoded(gradient(), "jpeg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")
    assert decode(data, (ROWS, COLUMNS)).shape == (ROWS, COLUMNS, 3)


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (COLUMNS, ROWS), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    for suffix in ("webp", "png", "gif", "tiff", "avif"):
        data = encoded(frames[0], suffix, save_all=True, append_images=frames[1:], lossless=True)
        first = decode(data, (ROWS, COLUMNS)).astype(int)
        assert np.abs(first - np.asarray(frames[0])).max() <= (4 if suffix == "avif" else 0)


def test_the_centre_is_cut_to_the_targets_shape():
    # A square whose sides are red: 140 x 116 keeps the middle 116 of 140 columns, 12 go on each side.
    square = np.zeros((280, 280, 3), np.uint8)
    square[:, :20] = square[:, -20:] = [255, 0, 0]
    image = decode(encoded(Image.fromarray(square), "png"), (140, 116))
    assert image.shape == (140, 116, 3)
    assert image.max() == 0
    # A tall image loses rows.
    tall = np.zeros((400, 100, 3), np.uint8)
    tall[:140] = tall[-140:] = [0, 255, 0]
    assert decode(encoded(Image.fromarray(tall), "png"), (60, 60)).max() == 0
    # A small one is enlarged.
    assert decode(encoded(gradient(), "png"), (140, 116)).shape == (140, 116, 3)


@pytest.mark.parametrize("shape", [(1000, 1000), (700, 1500), (1500, 700)])
def test_large_jpegs_are_shrunk_smoothly(shape):
    large = gradient(rows=shape[0], columns=shape[1])
    image = decode(encoded(large, "jpeg", quality=95), (64, 64)).astype(int)
    reference = decode(encoded(large, "png"), (64, 64)).astype(int)
    assert np.abs(image - reference).max() <= 6


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_too_large_is_recognised_from_the_header():
    assert reason(encoded(Image.new("L", (30_000, 2)), "png")) == Reason.TOO_LARGE
    assert reason(encoded(Image.new("L", (30_000, 2)), "jpeg")) == Reason.TOO_LARGE
    for suffix in ("bmp", "gif", "tiff"):
        assert reason(encoded(Image.new("L", (30_000, 2)), suffix)) == Reason.TOO_LARGE
    assert reason(encoded(gradient(), "avif"), max_side=23) == Reason.TOO_LARGE
    jpeg = encoded(gradient(), "jpeg")
    frame = jpeg.index(b"\xff\xc0")
    assert reason(jpeg[: frame + 5] + struct.pack(">HH", 65_500, 65_500) + jpeg[frame + 9 :]) == Reason.TOO_LARGE
    assert reason(b"P6 2 30000 255\n") == Reason.TOO_LARGE
    assert reason(png_of_size(19_999, 19_999)) == Reason.TOO_LARGE
    assert reason(png_of_size(1_000_000, 1_000_000)) == Reason.TOO_LARGE
    assert reason(encoded(gradient(), "png"), max_side=23) == Reason.TOO_LARGE
    assert reason(encoded(gradient(), "png"), max_pixels=ROWS * COLUMNS - 1) == Reason.TOO_LARGE
    assert decode(encoded(gradient(), "png"), (8, 8), max_side=24, max_pixels=ROWS * COLUMNS).shape == (8, 8, 3)


@pytest.mark.parametrize("suffix", ["png", "ppm", "jpeg", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated(suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), suffix)
    assert reason(data[: int(share * len(data))]) == Reason.TRUNCATED


@pytest.mark.parametrize("suffix", ["bmp", "gif", "tiff", "avif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_off_files_of_other_formats_are_bad_faces(suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), suffix)
    assert reason(data[: int(share * len(data))]) in (Reason.TRUNCATED, Reason.UNREADABLE)


def test_heic_without_its_library_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
    assert reason(data) == Reason.NEEDS_HEIC
    assert "EXTRAS=heic" in Reason.NEEDS_HEIC.words


def test_heic_is_read_with_its_library():
    heif = pytest.importorskip("pillow_heif")

    def heic(image: Image.Image) -> bytes:
        stream = io.BytesIO()
        heif.from_pillow(image).save(stream, quality=95, chroma=444)
        return stream.getvalue()

    data = heic(gradient())
    assert np.abs(decode(data, (ROWS, COLUMNS)).astype(int) - np.asarray(gradient())).max() <= 24
    assert reason(data, max_side=23) == Reason.TOO_LARGE
    random = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data[: random.integers(len(data) // 4, len(data) + 1)])
        for place in random.integers(0, len(damaged), 3):
            damaged[place] = random.integers(256)
        with contextlib.suppress(BadFace):
            assert decode(bytes(damaged), (8, 8)).shape == (8, 8, 3)


def test_any_damage_gives_a_face_or_a_bad_face():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))
    random = np.random.default_rng(1)
    for suffix in ("png", "ppm", "jpeg", "webp", "bmp", "gif", "tiff", "avif"):
        data = encoded(noise, suffix)
        cuts = [data[:length] for length in range(0, len(data), max(1, len(data) // 60))]
        damaged = []
        for _ in range(60):
            bytes_ = bytearray(data)
            for place in random.integers(0, len(data), 3):
                bytes_[place] = random.integers(256)
            damaged.append(bytes(bytes_))
        for each in cuts + damaged:
            with contextlib.suppress(BadFace):
                assert decode(each, (8, 8)).shape == (8, 8, 3)


def test_other_bad_files(tmp_path):
    assert reason(b"") == Reason.EMPTY
    assert reason(b"no image at all") == Reason.NOT_AN_IMAGE
    assert reason(encoded(gradient(), "ico")) == Reason.NOT_AN_IMAGE
    assert reason(b"BM is how this text begins") == Reason.NOT_AN_IMAGE
    assert reason(b"\0\0\0\x14ftypisom\0\0\0\0isom film") == Reason.NOT_AN_IMAGE
    corrupt = bytearray(encoded(gradient(), "png"))
    corrupt[60:90] = bytes(30)
    assert reason(bytes(corrupt)) == Reason.UNREADABLE
    assert reason(tmp_path / "gone.png") == Reason.MISSING
    assert reason(tmp_path / "gone" / "1.png") == Reason.MISSING
    assert reason(tmp_path) == Reason.UNREADABLE
    (tmp_path / "empty.jpg").touch()
    assert reason(str(tmp_path / "empty.jpg")) == Reason.EMPTY
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(2**30)
    assert reason(tmp_path / "sparse.jpg") == Reason.TOO_LARGE


def test_a_bad_face_can_be_pickled():
    assert pickle.loads(pickle.dumps(BadFace(Reason.EMPTY))).reason is Reason.EMPTY
