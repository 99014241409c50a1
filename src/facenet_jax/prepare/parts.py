"""A part of the work: so many faces of the source -> one shard, and what is known of its records."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.names import join_names, split_names
from facenet_jax.datasets.prepared import INDEX, LABEL_BYTES, shard_name
from facenet_jax.datasets.source import Reader
from facenet_jax.images.decode import BadFace, Reason
from facenet_jax.prepare.face import FacePreparer
from facenet_jax.prepare.job import PARTS
from facenet_jax.runtime.files import sync

# One record a group, so that one can be read without others; images do not compress again.
_WRITER_OPTIONS = "group_size:1,uncompressed"


class Abandoned(Exception):
    """The part is not wanted any more."""


@dataclass(frozen=True)
class Part:
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
class Records:
    """What is known of a shard's records, and of the faces that did not become any.

    Attributes:
      shard_bytes: the shard's size.
      identities: int64 [records].
      places: where each record came from.
      contents: uint8 [records, 16].
      looks: uint16 [records, 16].
      faces: int64 [records], how many faces were found.
      fallback: bool [records], where the centre was cut.
      rejected: places of faces that are no records.
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


def part_file(out: Path, number: int) -> Path:
    """The file that says that a part is done."""
    return out / PARTS / f"{number:05d}.npz"


def write_part(
    out: Path,
    parts: int,
    part: Part,
    reader: Reader,
    prepare_one: FacePreparer,
    tick: Callable[[int, int], None],
) -> None:
    """Prepares a part's faces; its shard is there whole, and then its `part_file`, or neither.

    Args:
      out: the folder.
      parts: how many parts there are.
      part: this one.
      reader: reads its faces.
      prepare_one: cuts and encodes them.
      tick: is told how many more faces are done, and how many of them are rejected; it may raise `Abandoned`.

    Raises:
      OSError: the disk is full, or the like.
      Abandoned: as `tick` said.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    shard = out / shard_name(part.number, parts)
    temporary = shard.with_name(f".{shard.name}.{os.getpid()}.tmp")
    kept: list[int] = []
    rejected: list[int] = []
    reasons: list[Reason] = []
    contents, looks, faces, fallback = [], [], [], []
    try:
        with _disk_trouble(shard):
            writer = ArrayRecordWriter(os.fspath(temporary), _WRITER_OPTIONS)
        try:
            for number, (place, identity) in enumerate(zip(part.places, part.identities.tolist(), strict=True)):
                try:
                    face = prepare_one(reader.read(place))
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
        done = Records(
            temporary.stat().st_size,
            part.identities[kept],
            [part.places[number] for number in kept],
            np.frombuffer(b"".join(contents), np.uint8).reshape(-1, 16),
            np.array(looks, np.uint16).reshape(-1, 16),
            np.array(faces, np.int64),
            np.array(fallback, bool),
            [part.places[number] for number in rejected],
            reasons,
        )
        temporary.replace(shard)
        _write_records(part_file(out, part.number), done)
    finally:
        temporary.unlink(missing_ok=True)


def read_records(file: Path) -> Records:
    """Reads what `write_part` wrote.

    Raises:
      OSError, ValueError, KeyError: it is missing or damaged.
    """
    with file.open("rb") as stream, np.load(stream) as held:  # opened here: NumPy leaves a damaged file open
        return Records(
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


def _write_records(file: Path, records: Records) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            np.savez(
                stream,
                shard_bytes=records.shard_bytes,
                identities=records.identities,
                places=join_names(records.places),
                contents=records.contents,
                looks=records.looks,
                faces=records.faces,
                fallback=records.fallback,
                rejected=join_names(records.rejected),
                reasons=np.array(records.reasons, np.uint8),
            )
        sync(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


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
