"""A file of precomputed embeddings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.names import comparable
from facenet_jax.embedders.base import WITH_FLIP, on_unit_sphere
from facenet_jax.errors import InputError, first_line, how_to_install
from facenet_jax.runtime.files import read_arrays

SUFFIXES = (".npz", ".parquet")


class FileOfEmbeddings:
    """Embeddings by name: `.npz` with the arrays `embeddings` [n, d] and `names` [n], or Parquet with these columns.

    A name is a face's path within its folder, `identity/image.jpg`; it may be given without its suffix.

    Attributes:
      names: as in the file.
      points: float32 [n, d], of norm 1.
      flipped: whether mirror images have their part in them, as `facenet-jax embed --flip` notes in the file.
      made_by: the digest of the embedder that made them, as `facenet-jax embed` notes; None where nothing is noted.
      name, digest, remarks: see `EmbeddingTable`.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
          InputError: it cannot be read, lacks an array, or holds anything but one vector for each face.
        """
        self.remarks: list[str] = []
        points, names, about = _read(path)
        noted = _noted(about)
        self.flipped = noted.get("flip") is True
        self.made_by = digest if isinstance(digest := noted.get("digest"), str) else None
        self.name = str(path) + WITH_FLIP * self.flipped
        if points.ndim != 2 or not np.issubdtype(points.dtype, np.number) or np.iscomplexobj(points):
            raise InputError(f"{path}: `embeddings` is {points.dtype} of shape {points.shape}; [n, d] is needed.")
        if names.shape != points.shape[:1] or names.dtype.kind not in "US":
            raise InputError(
                f"{path}: `names` is {names.dtype} of shape {names.shape}; {len(points)} strings are needed, "
                "one for each embedding."
            )
        if not len(points):
            raise InputError(f"{path} holds no embedding; give one for each face.")
        self.points = on_unit_sphere(points.astype(np.float64), self.name, self.remarks.append)
        self.names = [n.decode() if isinstance(n, bytes) else str(n) for n in names.tolist()]
        names_as_bytes = "\0".join(self.names).encode("utf-8", "surrogatepass")  # a file's name need not be text
        self.digest = hashlib.sha256(self.points.tobytes() + names_as_bytes).hexdigest()
        self._rows = {comparable(name): row for row, name in enumerate(self.names)}
        if len(self._rows) < len(self.names):
            twice = next(name for row, name in enumerate(self.names) if self._rows[comparable(name)] != row)
            raise InputError(f"{path} holds the name {twice!r} twice; give every face one embedding.")

    def look_up(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """See `EmbeddingTable`."""
        forms = map(comparable, keys)
        rows = [self._rows.get(key, self._rows.get(key.rsplit(".", 1)[0], -1)) for key in forms]
        missing = [key for key, row in zip(keys, rows, strict=True) if row < 0]
        if missing:
            raise InputError(
                f"{self.name} has no embedding of {len(missing):,} of {len(keys):,} faces, the first {missing[0]!r} "
                f"(its own first name is {self.names[0]!r}); names are paths within the data folder."
            )
        return self.points[rows]


def _noted(about: str) -> dict[str, Any]:
    """What `facenet-jax embed` noted in the file, as JSON; files of other makers may hold anything there."""
    try:
        noted = json.loads(about)
    except ValueError:
        return {}
    return noted if isinstance(noted, dict) else {}


def _read(path: Path) -> tuple[NDArray[np.generic], NDArray[np.generic], str]:
    """Embeddings, names, and what is noted about them."""
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        arrays = read_arrays(path)
        return arrays["embeddings"], arrays["names"], str(arrays.get("about", ""))
    except KeyError as error:
        raise InputError(f"{path} lacks {error}; the arrays `embeddings` and `names` are needed.") from error
    except InputError:
        raise
    except Exception as error:  # a damaged archive raises what its reader happens to trip over
        raise InputError(
            f"{path} cannot be read as a file of embeddings ({first_line(error)}); save it by "
            "numpy.savez(path, embeddings=…, names=…), with names as strings and not as objects."
        ) from error


def _read_parquet(path: Path) -> tuple[NDArray[np.generic], NDArray[np.generic], str]:
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"Parquet files need pyarrow: {how_to_install('parquet')}.") from error
    table = pyarrow.parquet.read_table(path, columns=["embeddings", "names"], page_checksum_verification=True)
    rows = table["embeddings"].combine_chunks()
    lengths = pyarrow.compute.unique(pyarrow.compute.list_value_length(rows)).to_pylist()
    if len(lengths) > 1 or None in lengths:
        raise InputError(
            f"{path}: the rows of `embeddings` are of several lengths, or empty; give every face a vector."
        )
    points = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), *lengths)
    about = (table.schema.metadata or {}).get(b"facenet-jax", b"").decode("utf-8", "replace")
    return points.astype(np.float32), np.array(table["names"].to_pylist(), np.str_), about
