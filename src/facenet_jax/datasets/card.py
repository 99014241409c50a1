"""The card of a prepared dataset: what it is and how it lies on disk (docs/datasets.md)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError

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

# A record is the identity's number in so many bytes, little-endian, and then the bytes of an image file.
LABEL_BYTES = 8


@dataclass(frozen=True)
class Origin:
    """What a dataset is made from and how: everything that decides about its bytes.

    Attributes:
      tool: which program wrote it.
      source_kind, source_digest, source_faces, source_ignored: what was prepared: its kind, a fingerprint, its faces,
        and how many entries were passed over because they are no images.
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


@dataclass(frozen=True)
class Card(Origin):
    """A dataset's card.

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
        return json.dumps({"format": FORMAT, "version": VERSION} | asdict(self), indent=1) + "\n"

    @property
    def first_records(self) -> NDArray[np.int64]:
        """int64 [shards + 1], the first record of each shard, and the number of records."""
        return np.concatenate([[0], np.cumsum(self.shard_records, dtype=np.int64)]).astype(np.int64)


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
        content: dict[str, Any] = json.loads(file.read_text())
        form, version = content.pop("format"), content.pop("version")
        if form != FORMAT or version != VERSION:
            raise InputError(f"{file} is of {form} {version}; this program reads {FORMAT} {VERSION}.")
        if set(content) != {field.name for field in fields(Card)}:
            raise ValueError("its entries are not those of a card")
        return Card(**content)
    except FileNotFoundError as error:
        raise InputError(f"{root} is no prepared dataset: it has no {CARD_FILE}.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} cannot be read ({error}): copy the dataset again, or prepare it anew.") from error
