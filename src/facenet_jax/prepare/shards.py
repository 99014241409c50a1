"""Writes the faces of a share of the source into one shard."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.datasets.names import join_names, split_names
from facenet_jax.datasets.prepared import INDEX, LABEL_BYTES, shard_name
from facenet_jax.datasets.source import Reader
from facenet_jax.images.cut import FaceCutter
from facenet_jax.images.decode import BadFace, Reason
from facenet_jax.images.digests import content_digest, look_digest
from facenet_jax.prepare.job import PARTS
from facenet_jax.runtime.files import read_arrays, sync, write_arrays

# One record a group, so that one can be read without others; images do not compress again.
_WRITER_OPTIONS = "group_size:1,uncompressed"
# Above 90 the paper's Table 4 leaves nothing to gain.
JPEG_QUALITY = 95
_KEPT = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class Abandoned(Exception):
    """The shard is not wanted any more."""


@dataclass(frozen=True)
class ShardFaces:
    """What a shard is made from.

    Attributes:
      number: which shard.
      places: where its faces lie in the source.
      identities: int64 [faces], whose they are.
    """

    number: int
    places: list[str]
    identities: NDArray[np.int64]


@dataclass(frozen=True)
class ShardRecords:
    """What is known of a shard's records, and of the faces that did not become any.

    Attributes:
      shard_bytes: the shard's size.
      identities: int64 [records].
      places: where each record came from.
      contents: uint8 [records, 16].
      looks: uint16 [records, 16].
      faces: int64 [records], how many faces were found.
      fallback: bool [records], where the centre was cut.
      rejected: places of faces that did not become records.
      reasons: why, for each.
    """

    shard_bytes: int
    identities: NDArray[np.int64]
    places: list[str]
    contents: NDArray[np.uint8]
    looks: NDArray[np.uint16]
    faces: NDArray[np.int64]
    fallback: NDArray[np.bool_]
    rejected: list[str]
    reasons: list[Reason]


class PreparedFace(NamedTuple):
    """A face as it is stored, and what is known of it.

    Attributes:
      image: the bytes of a JPEG or PNG file.
      content: digest of the bytes that it was made from.
      look: digest of its pixels' looks.
      faces: how many faces were found.
      fallback: whether the centre was cut because none was.
    """

    image: bytes
    content: bytes
    look: NDArray[np.uint16]
    faces: int
    fallback: bool


def records_file(out: Path, number: int) -> Path:
    """The file with a shard's records, there once the shard is."""
    return out / PARTS / f"{number:05d}.npz"


@dataclass(frozen=True)
class ShardWriter:
    """Makes shards, in a worker process or in this one.

    Attributes:
      out: the folder.
      shards: how many there are in all.
      reader: reads the source's faces.
      cutter: cuts one face of each image.
      size: of the face that is cut out, in pixels.
    """

    out: Path
    shards: int
    reader: Reader
    cutter: FaceCutter
    size: int

    def is_done(self, number: int) -> bool:
        """Whether a shard is there, with its records."""
        return records_file(self.out, number).exists() and (self.out / shard_name(number, self.shards)).exists()

    def write(self, source: ShardFaces, tick: Callable[[int, int], None]) -> None:
        """Prepares a shard's faces; the shard is there whole, and then its `records_file`, or neither.

        Args:
          source: what it is made from.
          tick: is given how many more faces are done, and how many of them are rejected; it may raise `Abandoned`.

        Raises:
          OSError: the disk is full, or the like.
          Abandoned: as `tick` said.
        """
        from array_record.python.array_record_module import ArrayRecordWriter

        shard = self.out / shard_name(source.number, self.shards)
        temporary = shard.with_name(f".{shard.name}.{os.getpid()}.tmp")
        kept: list[int] = []
        rejected: list[int] = []
        reasons: list[Reason] = []
        contents, looks, faces, fallback = [], [], [], []
        try:
            with _disk_trouble(shard):
                writer = ArrayRecordWriter(os.fspath(temporary), _WRITER_OPTIONS)
            try:
                for number, (place, identity) in enumerate(zip(source.places, source.identities.tolist(), strict=True)):
                    try:
                        face = prepare_face(self.cutter, self.size, self.reader.read(place))
                    except BadFace as bad:
                        rejected.append(number)
                        reasons.append(bad.reason)
                        tick(1, 1)
                        continue
                    with _disk_trouble(shard):
                        writer.write(identity.to_bytes(LABEL_BYTES, "little") + face.image)
                    kept.append(number)
                    contents.append(face.content)
                    looks.append(face.look)
                    faces.append(face.faces)
                    fallback.append(face.fallback)
                    tick(1, 0)
            finally:
                with _disk_trouble(shard):
                    writer.close()
            sync(temporary)
            records = ShardRecords(
                temporary.stat().st_size,
                source.identities[kept],
                [source.places[number] for number in kept],
                np.frombuffer(b"".join(contents), np.uint8).reshape(-1, 16),
                np.array(looks, np.uint16).reshape(-1, 16),
                np.array(faces, np.int64),
                np.array(fallback, bool),
                [source.places[number] for number in rejected],
                reasons,
            )
            temporary.replace(shard)
            _write_records(records_file(self.out, source.number), records)
        finally:
            temporary.unlink(missing_ok=True)


def prepare_face(cutter: FaceCutter, size: int, data: bytes) -> PreparedFace:
    """Cuts a face out and encodes it as JPEG of quality 95.

    With the crop `none`, JPEG and PNG files stay as they are, byte for byte, and others become PNG.

    Args:
      cutter: cuts one face of each image.
      size: of the face that is cut out, in pixels.
      data: the bytes of the image's file.

    Raises:
      BadFace: it cannot be decoded.
    """
    whole = cutter.crop == "none"
    (face,) = cutter(data, None if whole else (size, size))
    image = data
    if not (whole and data.startswith(_KEPT)):
        stream = io.BytesIO()
        picture = Image.fromarray(face.pixels)
        picture.save(stream, "png") if whole else picture.save(stream, "jpeg", quality=JPEG_QUALITY)
        image = stream.getvalue()
    return PreparedFace(image, content_digest(data), look_digest(face.pixels), face.faces, face.fallback)


def read_records(file: Path) -> ShardRecords:
    """Reads what `ShardWriter.write` wrote.

    Raises:
      OSError, ValueError, KeyError: it is missing or damaged.
    """
    held = read_arrays(file)
    return ShardRecords(
        int(held["shard_bytes"]),
        held["identities"],
        split_names(held["places"]),
        held["contents"],
        held["looks"],
        held["faces"],
        held["fallback"],
        split_names(held["rejected"]),
        [Reason(int(reason)) for reason in held["reasons"]],
    )


def _write_records(file: Path, records: ShardRecords) -> None:
    write_arrays(
        file,
        shard_bytes=np.array(records.shard_bytes),
        identities=records.identities,
        places=join_names(records.places),
        contents=records.contents,
        looks=records.looks,
        faces=records.faces,
        fallback=records.fallback,
        rejected=join_names(records.rejected),
        reasons=np.array(records.reasons, np.uint8),
    )


@contextlib.contextmanager
def _disk_trouble(file: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # what ArrayRecord makes of any trouble
        codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.ENOENT)
        code = next((code for code in codes if os.strerror(code) in str(error)), errno.EIO)
        raise OSError(code, os.strerror(code), os.fspath(file)) from error


def clean(out: Path, share: tuple[int, int]) -> None:
    """Removes what killed processes of a share left half written."""
    for folder in (out, out / PARTS, out / INDEX):
        for file in folder.glob(".*.tmp*"):
            number = file.name.removeprefix(".").removeprefix("faces-").partition("-")[0].partition(".")[0]
            mine = number.isdecimal() and int(number) % share[1] == share[0]
            if mine or (share[1] == 1 and not number.isdecimal()):
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()
