"""An InsightFace set as a source: train.rec (MXNet's RecordIO), train.idx, property."""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.source import ListedFaces
from facenet_jax.errors import MACHINE_ERRORS, InputError
from facenet_jax.images.decode import MAX_BYTES, BadFace, Reason
from facenet_jax.runtime.files import files_digest

# A record: magic, a word with the kind of part in its upper 3 bits and the length in the lower 29, the bytes, zeros up
# to a multiple of 4. A record with the magic number in it, at a multiple of 4, is cut there into parts (first 1, middle
# 2, last 3; whole 0), so that only the last part ever ends in zeros.
_MAGIC = 0xCED7230A
_HEAD = struct.Struct("<II")
# Before the image: flag, label, id, id2; with a flag above 0 the label is that many floats that follow instead.
_IMAGE_HEAD = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
# Labels are float32, which cannot count further than this.
_EXACT = 2**24
_UNKNOWN = -1
_HEADERS_AT_ONCE = 2**18


class RecordIO(ListedFaces):
    """The faces of a RecordIO file, in the order of its labels.

    Record 0 says in its label which records describe identities; each of those says which records hold its faces. Where
    they cannot say it (there is no such record 0, some are lost as the file or its .idx file is cut off or damaged,
    or there are more records than a float32 label can count), the faces' own labels are read, and a face that has lost
    its own counts as one of the identity before it. Faces that are lost are bad faces, as those that are damaged.

    Args:
      path: of the .rec file; the .idx file, and perhaps a file `property`, are in the same folder.

    Raises:
      InputError: the .idx file is damaged, no face has a label, or the files do not belong together.
    """

    kind = "recordio"

    def __init__(self, path: Path) -> None:
        self.root, self._path = path.parent, path
        keys, offsets = self._read_index()
        size = path.stat().st_size
        described = self._described(keys, offsets) if keys[0] == 0 and keys[-1] < _EXACT else None
        if described is not None:
            values, counts, self._offsets = described
            self._check_property(len(values))
        else:
            values, counts, self._offsets = self._labelled(keys, offsets)
        offsets_of_identities = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.index = IdentityIndex([str(value) for value in values.tolist()], offsets_of_identities)
        digest = hashlib.blake2b(digest_size=16)
        for part in (keys.tobytes(), offsets.tobytes(), values.tobytes(), counts.tobytes(), str(size).encode()):
            digest.update(hashlib.blake2b(part).digest())
        self.digest = digest.hexdigest()
        self.reader = RecordReader(path)

    def places(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """The file's name and the byte at which the record begins, or the number of one that the .idx file lacks."""
        index = self._path.with_suffix(".idx").name
        for offset in self._offsets[start:stop].tolist():
            yield f"{self._path.name}@{offset}" if offset >= 0 else f"{index}#{-offset}"

    def files_digest(self) -> str:
        """Of the .rec file's name, size and time: see StoredFaces."""
        return files_digest(self.root, [self._path])

    def _read_index(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        file = self._path.with_suffix(".idx")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of an empty file
                table = np.loadtxt(file, np.int64, ndmin=2)
        except OSError as error:
            raise InputError(f"{file}, which belongs to {self._path}, cannot be read: {error}") from error
        except ValueError:
            table = np.zeros((0, 2), np.int64)
        if not table.size or table.shape[1] != 2 or table.min() < 0:
            raise InputError(f"{file} is empty or damaged: each line is a record's number and its byte; copy it again.")
        order = np.argsort(table[:, 0], kind="stable")
        keys = table[order, 0]
        if (np.diff(keys) == 0).any():
            raise InputError(f"{file} names a record twice; copy it again.")
        return keys, table[order, 1]

    def _described(
        self, keys: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
        """(labels [identities], faces of each, where each face lies) by the identities' records, if all are there."""
        first, stop = self._identities(offsets[0])
        if not first:
            return None
        own = np.flatnonzero((keys >= first) & (keys < stop))
        if len(own) < stop - first:
            return None
        heads = self._heads(offsets[own])
        starts, ends = heads.labels.astype(np.int64).T
        if (heads.flags != 2).any() or starts.min() < 1 or (ends < starts).any() or ends.max() > _EXACT:
            return None
        counts = ends - starts
        numbers = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        place = np.searchsorted(keys, numbers).clip(max=len(keys) - 1)
        return np.arange(len(starts)), counts, np.where(keys[place] == numbers, offsets[place], -numbers)

    def _labelled(
        self, keys: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(labels [identities], faces of each, where each face lies) by the faces' labels."""
        heads = self._heads(offsets)
        stop = self._identities(offsets[0])[0] if keys[0] == 0 and keys[-1] < _EXACT else 0
        if stop:  # the faces are numbered up to there, also those that the .idx file lacks
            lost = np.setdiff1d(np.arange(1, stop), keys)
            of_faces = (keys > 0) & (keys < stop)
        else:
            lost = np.empty(0, np.int64)
            of_faces = heads.images | (heads.flags == _UNKNOWN)
        keys, offsets = np.concatenate([keys[of_faces], lost]), np.concatenate([offsets[of_faces], -lost])
        labels = np.concatenate([heads.labels[of_faces, 0], np.zeros(len(lost))]).astype(np.int64)
        known = np.concatenate([heads.flags[of_faces] != _UNKNOWN, np.zeros(len(lost), bool)])
        if not known.any():
            raise InputError(f"{self._path} has no face where its .idx file names one; copy both again.")
        order = np.argsort(keys, kind="stable")
        offsets, labels, known = offsets[order], labels[order], known[order]
        before = np.maximum.accumulate(np.where(known, np.arange(len(known)), known.argmax()))
        found, counts = np.unique(labels[before], return_counts=True)
        return found, counts, offsets[np.argsort(labels[before], kind="stable")]

    def _identities(self, offset: np.int64) -> tuple[int, int]:
        """The first of the records that describe identities and the one after the last; (0, 0) if there are none."""
        head = self._heads(np.array([offset]))
        first, stop = (int(value) for value in head.labels[0])
        return (first, stop) if head.flags[0] == 2 and 0 < first < stop <= _EXACT else (0, 0)

    def _heads(self, offsets: NDArray[np.int64]) -> _Heads:
        size = self._path.stat().st_size
        if size < _HEAD.size + _IMAGE_HEAD.size:
            raise InputError(f"{self._path} is cut off: it has {size:,} bytes; copy it again.")
        whole = np.memmap(self._path, np.uint8, "r")
        length = _HEAD.size + _IMAGE_HEAD.size + 8
        parts = []
        for first in range(0, len(offsets), _HEADERS_AT_ONCE):
            at = offsets[first : first + _HEADERS_AT_ONCE, None] + np.arange(length)
            heads = whole[at.clip(max=size - 1)]
            words, floats = heads.view("<u4"), heads.view("<f4")
            flags = words[:, 2].astype(np.int64)
            labels = floats[:, [8, 9]]
            labels[flags == 1] = floats[flags == 1][:, [8, 8]]
            labels[flags == 0] = floats[flags == 0][:, [3, 3]]
            bytes_of_head = _IMAGE_HEAD.size + 4 * np.minimum(flags, 2)
            there = (
                (words[:, 0] == _MAGIC)
                & (at[:, 0] + _HEAD.size + bytes_of_head <= size)
                & (np.abs(labels) < 2**31).all(axis=1)
            )
            parts.append(
                _Heads(
                    np.where(there, flags, _UNKNOWN),
                    np.where(there[:, None], labels, 0),
                    (flags < 2) | (words[:, 1] > _IMAGE_HEAD.size + 4 * flags),
                )
            )
        return _Heads(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _check_property(self, found: int) -> None:
        file = self._path.with_name("property")
        if not file.is_file():
            return
        try:
            identities = int(file.read_text().split(",")[0])
        except ValueError as error:
            raise InputError(
                f"{file} is damaged: it begins with the number of identities; fix or remove it."
            ) from error
        if identities != found:
            raise InputError(
                f"{file} says {identities:,} identities, and {self._path.name} has {found:,}: the files do not belong "
                "together; copy them again."
            )


class _Heads(NamedTuple):
    """What records begin with.

    Attributes:
      flags: int64 [n]; _UNKNOWN where no record begins, or none with a label.
      labels: float32 [n, 2], the first two numbers of the label; one that is alone twice.
      images: bool [n]; a record with several labels and nothing after them describes an identity instead.
    """

    flags: NDArray[np.int64]
    labels: NDArray[np.float32]
    images: NDArray[np.bool_]


@dataclass(frozen=True)
class RecordReader:
    """Reads the images of a RecordIO file.

    Attributes:
      path: of the .rec file.
    """

    path: Path

    def read(self, place: str) -> bytes:
        """The image of the record at `<file>@<byte>`: see source.Reader."""
        offset = place.rpartition("@")[2]
        if not offset.isdecimal():  # the .idx file lacks it
            raise BadFace(Reason.UNREADABLE)
        data = read_record(self.path, int(offset))
        if len(data) < _IMAGE_HEAD.size:
            raise BadFace(Reason.TRUNCATED)
        flag = _IMAGE_HEAD.unpack_from(data)[0]
        return data[_IMAGE_HEAD.size + 4 * flag :]


def read_record(path: Path, offset: int) -> bytes:
    """The bytes of one record, its parts put together.

    Raises:
      BadFace: no record begins there, or it is cut off.
    """
    parts: list[bytes] = []
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while True:
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    raise BadFace(Reason.TRUNCATED)
                magic, word = _HEAD.unpack(head)
                kind, length = word >> 29, word & (2**29 - 1)
                if magic != _MAGIC or (kind in (_WHOLE, _FIRST)) != (not parts):
                    raise BadFace(Reason.UNREADABLE)
                if length > MAX_BYTES:
                    raise BadFace(Reason.TOO_LARGE)
                part = file.read(length)
                if len(part) < length:
                    raise BadFace(Reason.TRUNCATED)
                parts.append(part)
                if kind in (_WHOLE, _LAST):
                    return struct.pack("<I", _MAGIC).join(parts)
    except OSError as error:
        if error.errno in MACHINE_ERRORS:
            raise
        raise BadFace(Reason.UNREADABLE) from error
