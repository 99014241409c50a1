"""Decodes image files to a network's input size or at their own, or says why it cannot."""

from __future__ import annotations

import contextlib
import enum
import errno
import io
import os
import re
import zlib
from collections.abc import Callable

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from facenet_jax.errors import MACHINE_ERRORS, how_to_install

FORMATS = "JPEG, PNG, PPM/PGM, WebP, BMP, GIF, TIFF, AVIF or HEIC"
MAX_SIDE = 20_000
MAX_PIXELS = 100_000_000  # 300 MB of pixels at most in each thread that decodes
MAX_BYTES = 2**28  # no image within the two limits above needs more


class Reason(enum.IntEnum):
    """Why an image was rejected; 0 means valid."""

    EMPTY = 1
    NOT_AN_IMAGE = 2
    TRUNCATED = 3
    TOO_LARGE = 4
    UNREADABLE = 5
    EXCLUDED = 6
    MISSING = 7
    FORBIDDEN = 8
    NEEDS_HEIC = 9

    @property
    def words(self) -> str:
        """For people."""
        return {
            Reason.EMPTY: "empty file",
            Reason.NOT_AN_IMAGE: "not an image of a known format",
            Reason.TRUNCATED: "truncated",
            Reason.TOO_LARGE: "too large",
            Reason.UNREADABLE: "unreadable",
            Reason.EXCLUDED: "left out by --exclude",
            Reason.MISSING: "no such file",
            Reason.FORBIDDEN: "permission denied",
            Reason.NEEDS_HEIC: f"HEIC, which needs pillow-heif: {how_to_install('heic')}",
        }[self]


class BadFace(Exception):
    """A face that cannot be decoded. It keeps its place in its batch, masked."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason.words


def decode(
    file: bytes | str | os.PathLike[str],
    size: tuple[int, int],
    *,
    max_side: int = MAX_SIDE,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Decodes one image, cuts its centre to the target's shape and resizes it.

    The format is recognised by content, not by suffix. Colours: grey is repeated in three channels; 16 bits are scaled
    to 8; palettes and CMYK are converted; alpha is composited on black. EXIF orientation is applied. An animation gives
    its first frame. A JPEG at least twice as large as the target is decoded at 1/2, 1/4 or 1/8.

    Args:
      file: the bytes of an image of one of the FORMATS, or a path to one.
      size: (rows, columns) in pixels.
      max_side: the largest width or height that is decoded.
      max_pixels: the largest width x height that is decoded.

    Returns:
      uint8 [rows, columns, 3], contiguous and writable.

    Raises:
      BadFace: with the reason.
    """
    return _decode(file, size, max_side, max_pixels)


def decode_whole(
    file: bytes | str | os.PathLike[str], *, max_side: int = MAX_SIDE, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decodes one image at its own size, upright, otherwise as `decode` does.

    Args:
      file: the bytes of an image of one of the FORMATS, or a path to one.
      max_side: the largest width or height that is decoded.
      max_pixels: the largest width x height that is decoded.

    Returns:
      uint8 [rows, columns, 3], contiguous and writable.

    Raises:
      BadFace: with the reason.
    """
    return _decode(file, None, max_side, max_pixels)


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a Pillow image as `decode_whole` gives those of a file: uint8 [rows, columns, 3], upright."""
    return np.array(to_rgb(upright(image.copy())))


def _decode(
    file: bytes | str | os.PathLike[str], size: tuple[int, int] | None, max_side: int, max_pixels: int
) -> NDArray[np.uint8]:
    data = file if isinstance(file, bytes) else _read(file)
    if not data:
        raise BadFace(Reason.EMPTY)
    opener = _opener(data)
    if opener is None:
        raise BadFace(Reason.NOT_AN_IMAGE)

    def check(width: int, height: int) -> None:
        if max(width, height) > max_side or width * height > max_pixels:
            raise BadFace(Reason.TOO_LARGE)

    try:
        pixels = _jpeg_pixels(data, size, check) if data.startswith(b"\xff") else None
        if pixels is not None:
            if size in (None, pixels.shape[:2]) and not _has_metadata(data):
                return pixels
            return _sized(upright(_with_metadata(pixels, data)), size)
        with opener(io.BytesIO(data)) as image:
            check(*image.size)
            if isinstance(image, PngImageFile):
                _check_png(data)
            if isinstance(image, JpegImageFile):
                width, height = image.size
                shrink = _shrink(width, height, size)
                image.draft(None, (width // shrink, height // shrink))
            image.load()
            check(*image.size)  # a HEIC image's header may say another
            return _sized(to_rgb(upright(image)), size)
    except (BadFace, MemoryError):
        raise
    except Exception as error:  # which exceptions Pillow raises for damaged files is not documented
        raise BadFace(Reason.TRUNCATED if _ends_early(data, error) else Reason.UNREADABLE) from error


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise BadFace(Reason.TOO_LARGE)
            return file.read()
    except OSError as error:
        raise BadFace(reason_of(error)) from error


def reason_of(error: OSError) -> Reason:
    """Why a file cannot be read.

    Raises:
      OSError: the machine is short of something, which says nothing about the file.
    """
    if error.errno in MACHINE_ERRORS:
        raise error
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Reason.MISSING
    return Reason.FORBIDDEN if error.errno in (errno.EACCES, errno.EPERM) else Reason.UNREADABLE


def _check_png(data: bytes) -> None:
    """Raises ValueError unless every chunk is whole: Pillow compares neither the pixels' CRC nor, always, their sum."""
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 8 + length
        if zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4]) or len(data) < end + 4:
            raise ValueError(f"a PNG's chunk at byte {at} is damaged")
        at = end + 4


def _opener(data: bytes) -> Callable[[io.BytesIO], ImageFile] | None:
    """The reader for the image, chosen by its first bytes."""
    # Not Image.open: it warns of images that it thinks too large, or raises, before their size can be asked for.
    for beginnings, opener in _OPENERS:
        if data.startswith(beginnings):
            return opener
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImageFile
    if data.startswith(b"BM") and data[6:10] == bytes(4):
        return BmpImageFile
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4]), 256)]
        if b"avif" in brands or b"avis" in brands:
            return AvifImageFile
        return _heif_opener() if any(brand in brands for brand in _HEIF_BRANDS) else None
    return PpmImageFile if re.match(rb"P[1-6]\s", data) else None


_OPENERS: tuple[tuple[tuple[bytes, ...], Callable[[io.BytesIO], ImageFile]], ...] = (
    ((b"\xff\xd8\xff",), JpegImageFile),
    ((b"\x89PNG\r\n\x1a\n",), PngImageFile),
    ((b"GIF87a", b"GIF89a"), GifImageFile),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImageFile),
)
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def _heif_opener() -> Callable[[io.BytesIO], ImageFile]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise BadFace(Reason.NEEDS_HEIC) from error
    return HeifImageFile


def _jpeg_pixels(
    data: bytes, size: tuple[int, int] | None, check: Callable[[int, int], None]
) -> NDArray[np.uint8] | None:
    # libjpeg-turbo by its shortest way: Pillow's pixels in half the time. None where it refuses: Pillow knows
    # printers' colours, tolerates small damage, or says what is wrong.
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        check(width, height)
        if colours not in ("YCbCr", "Gray", "RGB"):
            return None
        shrink = _shrink(width, height, size)
        return simplejpeg.decode_jpeg(data, min_height=-(-height // shrink), min_width=-(-width // shrink))
    except ValueError:
        return None


def _shrink(width: int, height: int, size: tuple[int, int] | None) -> int:
    # libjpeg decodes to 1/2, 1/4 or 1/8 for less than the price of the whole; other fractions cost more than they save.
    # The longer side of the target is compared because the EXIF orientation, not yet known, may turn the image.
    wanted = max(size) if size else max(width, height)
    return next(shrink for shrink in (8, 4, 2, 1) if min(width, height) >= shrink * wanted or shrink == 1)


def _has_metadata(data: bytes) -> bool:
    return b"Exif\0\0" in data or b"tiff:Orientation" in data


def _with_metadata(pixels: NDArray[np.uint8], data: bytes) -> Image.Image:
    image = Image.fromarray(pixels)
    if _has_metadata(data):
        with contextlib.suppress(Exception), JpegImageFile(io.BytesIO(data)) as header:
            image.info.update(header.info)
    return image


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says, turned in place."""
    with contextlib.suppress(Exception):  # a face with broken metadata is a face still
        ImageOps.exif_transpose(image, in_place=True)
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """The colours of an image of any mode, as `decode` converts them."""
    if image.mode.startswith("I"):  # 16 bits in 16 or 32; Pillow's own conversion would clip at 255
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
        black = Image.new("RGB", image.size)
        black.paste(image, mask=image.getchannel("A"))
        return black
    return image if image.mode == "RGB" else image.convert("RGB")


def cut_and_resize(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """An RGB image's centre in the shape of (rows, columns), resized to that: uint8 [rows, columns, 3]."""
    rows, columns = size
    width, height = image.size
    cut_width, cut_height = min(width, height * columns / rows), min(height, width * rows / columns)
    left, top = (width - cut_width) / 2, (height - cut_height) / 2
    box = (left, top, left + cut_width, top + cut_height)
    return np.array(image.resize((columns, rows), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0))


def _sized(image: Image.Image, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    return np.array(image) if size is None else cut_and_resize(image, size)


def _ends_early(data: bytes, error: Exception) -> bool:
    if data.startswith(b"\xff"):
        return b"\xff\xd9" not in data[-32:]
    if data.startswith(b"\x89"):
        return b"IEND" not in data[-32:]
    if data.startswith(b"R"):
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return "truncated" in str(error) or "EOF" in str(error)  # PPM has no end mark; Pillow counts the pixels
