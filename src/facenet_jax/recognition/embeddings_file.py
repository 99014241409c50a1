"""Writes embeddings to a file that any tool can read: Parquet, or NumPy's .npz."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax import __version__
from facenet_jax.embedders import Network
from facenet_jax.embedders.engine import EmbeddedFaces
from facenet_jax.embedders.table import SUFFIXES
from facenet_jax.errors import InputError, how_to_install
from facenet_jax.evaluation.compact import Packed, calibrate, pack
from facenet_jax.runtime.files import write_whole

FORMAT, VERSION = "facenet-jax embeddings", 1


@dataclass(frozen=True)
class Written:
    """The files that were written.

    Attributes:
      table: the file of embeddings.
      rejects: the list of photographs that gave no face, or None where every one did.
      packed: the vectors as bytes; None if they are stored as float32.
    """

    table: Path
    rejects: Path | None
    packed: Packed | None


def check_table(path: Path) -> None:
    """Raises InputError unless a file of this name can be written here."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: give a name that ends in .parquet or .npz.")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"Parquet files need pyarrow: {how_to_install('parquet')}; or give -o {path.with_suffix('.npz')}."
            ) from error
    if not path.parent.is_dir():
        raise InputError(f"The folder {path.parent} does not exist; make it, or give another file.")


def write_table(faces: EmbeddedFaces, path: Path, embedder: Network, crop: str, compact: bool) -> Written:
    """Writes a row for each face, and next to the file a list of the photographs without one; each whole or absent.

    Columns (arrays of an .npz): names, files, faces (numbers from the left), boxes, scores, embeddings. Box and score
    are NaN where faces were not looked for. The embedder, and the step of bytes, are in the Parquet file's metadata
    under `facenet-jax` (the array `about`), as JSON; `flip` there means that points are means with the mirror image's.

    Args:
      faces: at least one.
      path: ends in .parquet or .npz.
      embedder, crop: that gave the faces.
      compact: whether vectors are stored as one byte a coordinate.
    """
    packed = pack(faces.points, calibrate(faces.points)) if compact else None
    about: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "tool": f"facenet-jax {__version__}",
        "embedder": embedder.name,
        "digest": embedder.digest,
        "crop": crop,
    }
    if embedder.flipped:
        about["flip"] = True
    if packed:
        about |= {"step": packed.step, "clipped": packed.clipped, "rounding": packed.rounding}
    columns: dict[str, Any] = {
        "names": [_printable(name) for name in faces.names],
        "files": [_printable(faces.files[photo]) for photo in faces.photo.tolist()],
        "faces": faces.number.astype(np.int32),
        "boxes": faces.boxes,
        "scores": faces.scores,
        "embeddings": packed.codes if packed else faces.points,
    }
    rejects = path.with_name(f"{path.stem}.rejected.txt")
    write_rejects(rejects, faces.rejected)
    _write(path, columns, json.dumps(about))
    return Written(path, rejects if faces.rejected else None, packed)


def write_rejects(file: Path, rejected: Sequence[tuple[str, str]]) -> None:
    """Writes a line for each photograph, a tab and the reason; removes the file if there are none."""
    if rejected:
        write_whole(file, "".join(f"{_reject(name, reason)}\n" for name, reason in rejected))
    else:
        file.unlink(missing_ok=True)


def new_rejects(file: Path, rejected: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The photographs that the file of an earlier `write_rejects` does not list; all if there is no such file."""
    try:
        before = set(file.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        before = set()
    return [(name, reason) for name, reason in rejected if _reject(name, reason) not in before]


def _reject(name: str, reason: str) -> str:
    return f"{_printable(name)}\t{reason}"


def _printable(name: str) -> str:
    """A file's name as Unicode on one line: undecodable bytes, tabs and line ends are escaped."""
    whole = os.fsencode(name).decode("utf-8", "backslashreplace")
    return whole.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _write(path: Path, columns: dict[str, Any], about: str) -> None:
    write: Callable[[Path, dict[str, Any], str], None] = _write_parquet if path.suffix == ".parquet" else _write_npz
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        write(temporary, columns, about)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_npz(path: Path, columns: dict[str, Any], about: str) -> None:
    arrays: dict[str, Any] = {name: np.asarray(column) for name, column in columns.items()}
    np.savez(path, about=np.array(about), **arrays)


def _write_parquet(path: Path, columns: dict[str, Any], about: str) -> None:
    import pyarrow
    import pyarrow.parquet

    arrays = {
        "names": pyarrow.array(columns["names"], pyarrow.string()),
        "files": pyarrow.array(columns["files"], pyarrow.string()),
        "faces": pyarrow.array(columns["faces"]),
        "boxes": _rows(columns["boxes"]),
        "scores": pyarrow.array(columns["scores"]),
        "embeddings": _rows(columns["embeddings"]),
    }
    table = pyarrow.table(arrays).replace_schema_metadata({"facenet-jax": about})
    # Parquet stores integers in four bytes, but the indices of a dictionary with at most 256 entries in one.
    numbered = ["embeddings.list.element"] if columns["embeddings"].dtype == np.int8 else []
    pyarrow.parquet.write_table(
        table, path, use_dictionary=["files", *numbered], compression="none", write_page_checksum=True
    )


def _rows(array: NDArray[Any]) -> Any:
    import pyarrow

    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(array.ravel()), array.shape[1])
