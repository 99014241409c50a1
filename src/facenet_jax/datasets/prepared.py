"""A prepared dataset: its card, and its faces in ArrayRecord shards with a memory-mapped index (docs/datasets.md)."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.names import Names
from facenet_jax.errors import InputError
from facenet_jax.images.decode import BadFace, Reason, decode
from facenet_jax.runtime.files import map_array
from facenet_jax.runtime.json_files import checked, read_json

CARD_FILE = "card.json"
JOB_FILE = "prepare.json"  # there while a dataset is being prepared
FORMAT = "facenet-jax faces"
VERSION = 1

INDEX = Path("index")
OFFSETS = INDEX / "offsets.npy"  # int64 [identities + 1]
NAMES = INDEX / "names"  # of identities, see names.Names
FILES = INDEX / "files"  # of records, see names.Names
CONTENTS = INDEX / "contents.npy"  # uint8 [records, 16], see digests.content_digest
LOOKS = INDEX / "looks.npy"  # uint16 [records, 16], see digests.look_digest

# A record starts with the identity's number in this many bytes, little-endian; the bytes of an image file follow.
LABEL_BYTES = 8

# A process may open a thousand files on most systems.
_OPEN_SHARDS = 512
_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
# With more shards than may be open, opening one has to be quick: its index stays on disk.
_OPTIONS_OF_MANY = f"{_OPTIONS},index_storage_option:offloaded,footer_prefetch_bytes:0"


@dataclass(frozen=True)
class Origin:
    """What a dataset is made from and how: everything that decides about its bytes.

    Attributes:
      tool: which program wrote it.
      source_kind, source_digest, source_faces, source_ignored: what was prepared: its kind, a fingerprint, its faces,
        and how many entries were passed over because they are not images.
      identities: people named, with faces or without.
      crop, size: how faces were cut, and to which side in pixels (0: not resized).
      detector: SHA-256 of the detector's weights, where one was used.
      part_faces: faces of the source that a shard was made from.
    """

    tool: str
    source_kind: str
    source_digest: str
    source_faces: int
    source_ignored: int
    identities: int
    crop: str
    size: int
    detector: str | None
    part_faces: int

    def __post_init__(self) -> None:
        if self.part_faces < 1:
            raise ValueError("no shard has a face")


@dataclass(frozen=True)
class Card(Origin):
    """The card of a prepared dataset.

    Attributes:
      records: faces.
      digest: a fingerprint of the faces.
      shard_records, shard_bytes: records and bytes of each shard.
    """

    records: int
    digest: str
    shard_records: list[int]
    shard_bytes: list[int]

    def to_json(self) -> str:
        """The file's text."""
        content = {"format": FORMAT, "version": VERSION} | asdict(self)
        return json.dumps(content | {"checksum": _checksum(content)}, indent=1) + "\n"

    @property
    def first_records(self) -> NDArray[np.int64]:
        """int64 [shards + 1], the first record of each shard, and the number of records."""
        return np.concatenate([[0], np.cumsum(self.shard_records, dtype=np.int64)]).astype(np.int64)


def _checksum(content: dict[str, Any]) -> str:
    """Of what a card says: nothing else contradicts a digest, or a size, that changed on disk."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def shard_name(number: int, shards: int) -> str:
    """The file name of a shard."""
    return f"faces-{number:05d}-of-{shards:05d}.array_record"


def is_prepared(path: Path) -> bool:
    """Whether a folder holds a prepared dataset."""
    return (path / CARD_FILE).is_file()


def read_card(root: Path) -> Card:
    """Reads a dataset's card.

    Raises:
      InputError: it is missing, damaged, or of another version.
    """
    file = root / CARD_FILE
    try:
        content: dict[str, Any] = read_json(file)
        checksum = content.pop("checksum", None)  # cards that were written before there were any have none
        wanted = _checksum(content)
        form, version = content.pop("format"), content.pop("version")
        if form != FORMAT or version != VERSION:
            raise InputError(f"{file} is of {form} {version}; this program reads {FORMAT} {VERSION}.")
        if checksum not in (None, wanted):
            raise ValueError("its checksum is another")
        return checked(Card, content)
    except FileNotFoundError as error:
        raise InputError(f"{root} is not a prepared dataset: it has no {CARD_FILE}.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} cannot be read ({error}): copy the dataset again, or prepare it again.") from error


class PreparedSource:
    """The faces of a folder written by `facenet-jax prepare`.

    Opening reads the card and looks at the shards' sizes; arrays are memory-mapped, shards opened when first read, in
    each process for itself. Pickled, only the path travels.

    Attributes:
      root: the folder.
      card: what it says of itself.
      index: the identities; one may have no face.
      files: where each record came from, as a path within what was prepared.
      digest: a fingerprint of the faces, the same at another place.
      ignored: 0; how many entries were passed over in preparing is in the card.

    Raises:
      InputError: it is not a prepared dataset, or its card disagrees with its other files.
    """

    ignored = 0

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.card = read_card(self.root)
        self._check_shards()
        self._first_records = self.card.first_records
        try:
            offsets = map_array(self.root / OFFSETS)
            names, self.files = Names(self.root / NAMES), Names(self.root / FILES)
            self._contents: NDArray[np.uint8] = map_array(self.root / CONTENTS)
            self._looks: NDArray[np.uint16] = map_array(self.root / LOOKS)
        except (OSError, ValueError) as error:
            raise self._disagrees(f"its index cannot be read: {error}") from error
        records, identities = self.card.records, self.card.identities
        if offsets.shape != (identities + 1,) or offsets.dtype != np.int64 or int(offsets[-1]) != records:
            raise self._disagrees(f"{OFFSETS} does not give {identities:,} identities {records:,} records")
        if int(offsets[0]) or (np.diff(offsets) < 0).any():
            raise self._disagrees(f"{OFFSETS} is not in order")
        for file, array, kind in ((CONTENTS, self._contents, np.uint8), (LOOKS, self._looks, np.uint16)):
            if array.dtype != kind or array.shape[1:] != (16,):
                raise self._disagrees(f"{file} is {array.dtype} of shape {array.shape}")
        for file, length, expected in (
            (NAMES, len(names), identities),
            (FILES, len(self.files), records),
            (CONTENTS, len(self._contents), records),
            (LOOKS, len(self._looks), records),
        ):
            if length != expected:
                raise self._disagrees(f"{file} has {length:,} entries, not {expected:,}")
        self.index = IdentityIndex(names, offsets)
        self.digest = self.card.digest
        self._readers: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def contents(self) -> NDArray[np.uint8]:
        """uint8 [records, 16]: `digests.content_digest` of what each record was prepared from."""
        return self._contents

    @property
    def looks(self) -> NDArray[np.uint16]:
        """uint16 [records, 16]: `digests.look_digest` of each record's image."""
        return self._looks

    def load(self, record: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Decodes one face: see `decode.decode`."""
        return decode(self.read(record), size)

    def read(self, record: int) -> bytes:
        """The bytes of one face's image file.

        Raises:
          BadFace: the shard is damaged there.
          InputError: the shard does not hold the records that the card says, or the record is another identity's.
        """
        shard = int(self._first_records.searchsorted(record, side="right")) - 1
        try:
            data: bytes = self._reader(shard).read([record - int(self._first_records[shard])])[0]
        except (RuntimeError, ValueError, IndexError) as error:
            raise BadFace(Reason.UNREADABLE) from error
        identity = int(self.index.identity_of(np.array(record)))
        if int.from_bytes(data[:LABEL_BYTES], "little") != identity:
            raise self._disagrees(f"record {record:,} is not of identity {identity:,}, as {OFFSETS} says")
        return data[LABEL_BYTES:]

    def describe(self, record: int) -> str:
        """The shard, and where the face came from."""
        shard = int(self._first_records.searchsorted(record, side="right")) - 1
        name = shard_name(shard, len(self.card.shard_records))
        return f"{self.root / name}:{record - int(self._first_records[shard])} ({self.files[record]})"

    def place(self, record: int) -> str:
        """Where one face lay in what was prepared."""
        return self.files[record]

    def places(self) -> Iterator[str]:
        """Where each face lay in what was prepared: see FaceSource."""
        return iter(self.files)

    def files_digest(self) -> str:
        """The digest, which is of the faces' bytes: see StoredFaces."""
        return self.digest

    def _reader(self, shard: int) -> Any:
        with self._lock:
            reader = self._readers.get(shard)
            if reader is not None:
                self._readers.move_to_end(shard)
                return reader
            from array_record.python.array_record_module import ArrayRecordReader

            shards = len(self.card.shard_records)
            file = self.root / shard_name(shard, shards)
            options = _OPTIONS if shards <= _OPEN_SHARDS else _OPTIONS_OF_MANY
            reader = ArrayRecordReader(os.fspath(file), options=options, file_reader_buffer_size=32_768)
            if not reader.ok() or reader.num_records() != self.card.shard_records[shard]:
                held = f"{reader.num_records():,} records" if reader.ok() else "no records that can be read"
                raise self._disagrees(f"{file.name} holds {held}, not {self.card.shard_records[shard]:,}")
            self._readers[shard] = reader
            if len(self._readers) > _OPEN_SHARDS:
                self._readers.popitem(last=False)  # closed when no thread reads from it any more
            return reader

    def _check_shards(self) -> None:
        card = self.card
        if len(card.shard_records) != len(card.shard_bytes) or sum(card.shard_records) != card.records:
            raise self._disagrees(f"its shards do not add up to {card.records:,} records")
        for number, size in enumerate(card.shard_bytes):
            file = self.root / shard_name(number, len(card.shard_bytes))
            try:
                found = file.stat().st_size
            except OSError as error:
                raise self._disagrees(f"{file.name} cannot be read ({error.strerror})") from error
            if found != size:
                raise self._disagrees(f"{file.name} has {found:,} bytes, not {size:,}")

    def _disagrees(self, what: str) -> InputError:
        return InputError(
            f"The card of {self.root} disagrees with its files: {what}; copy the dataset again, or prepare it again."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return PreparedSource, (self.root,)
