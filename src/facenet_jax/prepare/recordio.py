"""An InsightFace set as a source: train.rec (MXNet's RecordIO), train.idx, property."""

from __future__ import annotations

import hashlib
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facenet_jax.data.decode import MAX_BYTES, BadFace, Reason
from facenet_jax.errors import InputError

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
_HEADERS_AT_ONCE = 2**18


class RecordIO:
    """The faces of a RecordIO file, in the order of its labels.

    Record 0 says in its label which records describe identities; each of those says which records hold its faces. Where
    there is no such record 0, or there are more records than a float32 label can count, the faces' own labels are read.

    Args:
      path: of the .rec file; the .idx file, and a file `property` if there is one, lie beside it.

    Raises:
      InputError: the files are damaged or do not belong together.
    """

    kind = "recordio"
    ignored = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        keys, offsets = self._read_index()
        size = path.stat().st_size
        if int(offsets.max()) + _HEAD.size > size:
            raise InputError(
                f"{path} is cut off: it has {size:,} bytes, and {path.with_suffix('.idx').name} names a record at byte "
                f"{int(offsets.max()):,}; copy it again."
            )
        self._check_last(int(offsets.max()), size)
        values, counts, self._offsets = self._by_identity(keys, offsets)
        self.names = [str(value) for value in values.tolist()]
        self.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._check_property()
        digest = hashlib.blake2b(digest_size=16)
        for part in (keys.tobytes(), offsets.tobytes(), values.tobytes(), counts.tobytes(), str(size).encode()):
            digest.update(hashlib.blake2b(part).digest())
        self.digest = digest.hexdigest()
        self.reader = RecordReader(path)

    def places(self, start: int, stop: int) -> list[str]:
        """The file's name and the byte at which the record begins."""
        return [f"{self._path.name}@{offset}" for offset in self._offsets[start:stop].tolist()]

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

    def _check_last(self, offset: int, size: int) -> None:
        try:
            read_record(self._path, offset)
        except BadFace as error:
            raise InputError(
                f"{self._path} is cut off or damaged: its last record, at byte {offset:,} of {size:,}, is not whole; "
                "copy it again."
            ) from error

    def _by_identity(
        self, keys: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(labels [identities], faces of each, where in the file each face lies), by label and then by number."""
        if keys[0] == 0 and keys[-1] < _EXACT:
            flags, ranges = self._headers(offsets[:1])
            first, stop = (int(value) for value in ranges[0])
            if flags[0] == 2 and 0 < first < stop:
                at = np.searchsorted(keys, np.arange(first, stop))
                if at[-1] >= len(keys) or keys[at[-1]] != stop - 1 or keys[at[0]] != first:
                    raise InputError(
                        f"{self._path} says that records {first:,} to {stop - 1:,} describe identities, which "
                        f"{self._path.with_suffix('.idx').name} does not have; copy both again."
                    )
                flags, ranges = self._headers(offsets[at])
                starts, ends = ranges.astype(np.int64).T
                if (flags != 2).any() or (ends < starts).any():
                    raise InputError(f"{self._path} has a damaged identity record; copy it again.")
                counts = ends - starts
                within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
                numbers = np.repeat(starts, counts) + within
                place = np.searchsorted(keys, numbers).clip(max=len(keys) - 1)
                if (keys[place] != numbers).any():
                    raise InputError(f"{self._path} has faces that its .idx file does not name; copy both again.")
                return np.arange(len(starts)), counts, offsets[place]
        faces = offsets[keys > 0] if keys[0] == 0 and self._headers(offsets[:1])[0][0] else offsets
        flags, values = self._headers(faces)
        labels = values[:, 0].astype(np.int64)
        found, counts = np.unique(labels, return_counts=True)
        return found, counts, faces[np.argsort(labels, kind="stable")]

    def _headers(self, offsets: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """The flags [n] of records and the first two floats of their labels [n, 2]."""
        whole = np.memmap(self._path, np.uint8, "r")
        length = _HEAD.size + _IMAGE_HEAD.size + 8
        flags, labels = [], []
        for first in range(0, len(offsets), _HEADERS_AT_ONCE):
            at = offsets[first : first + _HEADERS_AT_ONCE, None] + np.arange(length)
            heads = whole[at.clip(max=len(whole) - 1)]
            words = heads.view("<u4")
            if (words[:, 0] != _MAGIC).any():
                bad = int(at[np.flatnonzero(words[:, 0] != _MAGIC)[0], 0])
                raise InputError(
                    f"{self._path} has no record at byte {bad:,}, where its .idx file names one; copy both again."
                )
            floats = heads.view("<f4")
            flag = words[:, 2]
            several = flag > 0
            flags.append(flag)
            labels.append(np.where(several[:, None], floats[:, 8:10], floats[:, 3:4]))
        return np.concatenate(flags), np.concatenate(labels)

    def _check_property(self) -> None:
        file = self._path.with_name("property")
        if not file.is_file():
            return
        try:
            identities = int(file.read_text().split(",")[0])
        except ValueError as error:
            raise InputError(
                f"{file} is damaged: it begins with the number of identities; mend or remove it."
            ) from error
        if identities != len(self.names):
            raise InputError(
                f"{file} says {identities:,} identities, and {self._path.name} has {len(self.names):,}: the files do "
                "not belong together; copy them again."
            )


@dataclass(frozen=True)
class RecordReader:
    """Reads the images of a RecordIO file.

    Attributes:
      path: of the .rec file.
    """

    path: Path

    def read(self, place: str) -> bytes:
        """The image of the record at `<file>@<byte>`: see sources.Reader."""
        data = read_record(self.path, int(place.rpartition("@")[2]))
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
        raise BadFace(Reason.UNREADABLE) from error
