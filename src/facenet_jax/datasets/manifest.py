"""A manifest as a source: a table with the columns path and identity."""

from __future__ import annotations

import csv
import hashlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.names import check_distinct, raw, text
from facenet_jax.datasets.source import FileReader, ListedFaces
from facenet_jax.errors import InputError, first_line, how_to_install
from facenet_jax.runtime.files import check_encoding

_ROWS = 65_536


class Manifest(ListedFaces):
    """The faces that a CSV or Parquet file names; relative paths start at the file's folder.

    Identities are in the order of their names' bytes, the faces of one in the order of the file.

    Args:
      path: of a .csv file in UTF-8 with a header line, or of a .parquet file.

    Raises:
      InputError: a column is missing, a row is incomplete, there are no rows, or the file is damaged.
    """

    kind = "manifest"

    def __init__(self, path: Path) -> None:
        self.root = path.parent
        self.reader = FileReader(self.root)
        numbers: dict[bytes, int] = {}
        identities, ends, paths = array("q"), array("q", [0]), bytearray()
        rows = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
        for row, (place, identity) in enumerate(rows, 1):
            if not place or not identity:
                raise InputError(f"Row {row:,} of {path} has no {'identity' if place else 'path'}: complete it.")
            identities.append(numbers.setdefault(raw(identity), len(numbers)))
            paths += raw(place)
            ends.append(len(paths))
        if not identities:
            raise InputError(f"The manifest {path} has no rows: give one row a face, with its path and identity.")
        ordered = sorted(numbers)
        rank = np.empty(len(numbers), np.int64)
        rank[[numbers[name] for name in ordered]] = np.arange(len(numbers))
        ranks = rank[np.frombuffer(identities, np.int64)]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(ranks, minlength=len(numbers)))]).astype(np.int64)
        names = [text(name) for name in ordered]
        check_distinct(names, str(path))
        self.index = IdentityIndex(names, offsets)
        # All paths in one run of bytes: a string object each would cost several times as much.
        self._order = np.argsort(ranks, kind="stable")
        self._ends = np.frombuffer(ends, np.int64)
        self._paths = bytes(paths)
        digest = hashlib.blake2b(digest_size=16)
        for part in (b"\0".join(ordered), offsets.tobytes(), self._order.tobytes(), ends.tobytes(), self._paths):
            digest.update(hashlib.blake2b(part).digest())
        self.digest = digest.hexdigest()

    def places(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """The paths as the manifest has them: see ListedFaces."""
        for row in self._order[start:stop]:
            yield text(self._paths[self._ends[row] : self._ends[row + 1]])


def _csv(path: Path) -> Iterator[tuple[str, str]]:
    with path.open("rb") as raw_file:
        check_encoding(raw_file.read(_ROWS), str(path))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file)
        try:
            _check_columns(path, rows.fieldnames or ())
            for row in rows:
                yield row["path"] or "", row["identity"] or ""
        except csv.Error as error:
            raise InputError(f"Line {rows.line_num:,} of {path} is not CSV ({error}): repair it.") from error


def _parquet(path: Path) -> Iterator[tuple[str, str]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(f"Reading {path} needs pyarrow: {how_to_install('parquet')}.") from error
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        _check_columns(path, file.schema_arrow.names)
        for batch in file.iter_batches(_ROWS, columns=["path", "identity"]):
            columns = [batch.column(name).cast(pa.string()).to_pylist() for name in ("path", "identity")]
            yield from ((place or "", identity or "") for place, identity in zip(*columns, strict=True))
    except (pa.ArrowException, OSError, ValueError) as error:  # pyarrow raises OSError of pages that are damaged
        if isinstance(error, OSError) and error.errno:
            raise
        raise InputError(
            f"{path} is not a Parquet file that can be read ({first_line(error)}): write it again."
        ) from error


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in ("path", "identity") if name not in columns]
    if missing:
        there = f" (it has {', '.join(map(repr, columns))!s:.200})" if columns else ""
        raise InputError(
            f"{path} has no column {' and no column '.join(missing)}{there}: its first row names the columns path and "
            "identity, divided by a comma."
        )
