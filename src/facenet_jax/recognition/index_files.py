"""Reads and writes an index on disk: a manifest, the vectors, and the person of each.

The manifest names the other two files and their SHA-256. They have new names at every change, and the manifest is
replaced last, so that the folder holds a whole index at any moment, the old or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from facenet_jax import __version__
from facenet_jax.datasets.names import join_names, split_names
from facenet_jax.errors import InputError
from facenet_jax.recognition.finder import Known
from facenet_jax.recognition.index import PeopleIndex, read_vectors
from facenet_jax.recognition.thresholds import Threshold
from facenet_jax.runtime.files import held_folder, read_arrays, sync, write_whole
from facenet_jax.runtime.json_files import read_json

MANIFEST = "index.json"
FORMAT = "facenet-jax index"
# Without and with faces of an older embedder: versions of this program that do not know the second refuse it.
_VERSIONS = (1, 2)
# Where the faces of a gallery are kept until they are in the index.
PARTS = ".parts"
# The photographs of the last gallery that were passed over.
REJECTS = "rejected.txt"
_KINDS = ("vectors", "faces")


def is_index(root: Path) -> bool:
    """Whether a folder holds an index."""
    return (root / MANIFEST).is_file()


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Makes the folder of an index and locks it against other processes that would change it.

    Raises:
      InputError: another process changes it, it cannot be written, or it holds something else.
    """
    with ExitStack() as stack:
        try:
            there = os.listdir(root) if root.is_dir() else []
            strange = sorted(name for name in there if not name.startswith((".", *_KINDS)))
            if strange and not is_index(root):
                raise InputError(f"{root} is not empty (it has {strange[0]}) and is not an index; give a new folder.")
            stack.enter_context(held_folder(root))
        except BlockingIOError as error:
            raise InputError(f"another process changes {root}; wait for it.") from error
        except OSError as error:
            raise InputError(f"{root} cannot be written ({error.strerror}); give another folder.") from error
        yield


def save_index(index: PeopleIndex, root: Path) -> None:
    """Writes an index, and removes the files of the one that it replaces."""
    for left in root.glob(".*.tmp"):  # by a process that was killed
        left.unlink()
    temporaries = {kind: root / f".{kind}.{os.getpid()}.tmp" for kind in _KINDS}
    try:
        index.vectors.write(temporaries["vectors"])
        arrays: dict[str, Any] = {
            "people": join_names(index.people),
            "person": index.person,
            "files": join_names(index.files),
            "contents": index.contents,
        }
        if index.older is not None:
            arrays["of_older"] = index.of_older
        with temporaries["faces"].open("wb") as stream:
            np.savez(stream, **arrays)
        files = {}
        for kind, temporary in temporaries.items():
            digest = _sha256(temporary)
            name = f"{kind}-{digest[:16]}.{'faiss' if kind == 'vectors' else 'npz'}"
            sync(temporary)
            temporary.replace(root / name)
            files[name] = digest
        write_whole(root / MANIFEST, json.dumps(_signed(_manifest(index, files)), indent=1) + "\n")
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
    for kind in _KINDS:
        for file in root.glob(f"{kind}-*"):
            if file.name not in files:
                file.unlink()
    shutil.rmtree(root / PARTS, ignore_errors=True)


def load_index(root: Path) -> PeopleIndex:
    """Reads an index after comparing every file with its SHA-256; nothing in it is executed.

    Raises:
      InputError: there is none, or it is of another version, damaged or tampered with.
    """
    file = root / MANIFEST
    while True:
        before = _bytes_of(file)
        try:
            return _load(root, file)
        except InputError:
            if _bytes_of(file) == before:
                raise
            # Another process enrolled meanwhile and removed the files that the manifest named: read again.


def _bytes_of(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def _load(root: Path, file: Path) -> PeopleIndex:
    try:
        manifest: dict[str, Any] = read_json(file)
        if manifest["format"] != FORMAT or manifest["version"] not in _VERSIONS:
            raise InputError(
                f"{file} is of {manifest['format']} {manifest['version']}, and this program reads {FORMAT} "
                f"{' and '.join(map(str, _VERSIONS))}; enrol the gallery again into another folder."
            )
        if _signed(manifest) != manifest:
            raise ValueError("its own digest is another")
        paths = {name.partition("-")[0]: root / Path(name).name for name in manifest["files"]}
        for path, digest in zip(paths.values(), manifest["files"].values(), strict=True):
            if _sha256(path) != digest:
                raise ValueError(f"the SHA-256 of {path.name} is another")
        vectors = read_vectors(
            paths["vectors"],
            manifest["embedding_size"],
            manifest["step"],
            manifest["clipped"],
            manifest["rounding"],
        )
        arrays = read_arrays(paths["faces"])
        people, person = split_names(arrays["people"]), arrays["person"]
        files, contents = split_names(arrays["files"]), arrays["contents"]
        about, older = manifest["embedder"], manifest.get("older")
        of_older = np.empty(0, bool) if older is None else arrays["of_older"].astype(bool)
        counts = {len(vectors), len(person), len(files), len(contents), len(files) if older is None else len(of_older)}
        if len(counts) != 1:
            raise ValueError("its files do not belong together")
        return PeopleIndex(
            about["spec"],
            about["step"],
            about["name"],
            about["digest"],
            manifest["crop"],
            vectors,
            people,
            person,
            files,
            contents,
            _thresholds(manifest["thresholds"]),
            None if older is None else Known(older["spec"], older["name"], older["digest"]),
            of_older,
            [] if older is None else _thresholds(older["thresholds"]),
        )
    except FileNotFoundError as error:
        what = f"lacks {Path(error.filename).name}" if is_index(root) else f"is not an index: it has no {MANIFEST}"
        raise InputError(f"{root} {what}; make one: facenet-jax enroll GALLERY {root} --embedder EMBEDDER") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{root} is damaged or was tampered with ({error}); copy it again, or enrol the gallery again."
        ) from error


def _thresholds(entries: list[dict[str, Any]]) -> list[Threshold]:
    return [Threshold(**entry) for entry in entries]


def _manifest(index: PeopleIndex, files: dict[str, str]) -> dict[str, Any]:
    older = {}
    if index.older is not None:
        thresholds = [asdict(threshold) for threshold in index.older_thresholds]
        older = {"older": asdict(index.older) | {"faces": int(index.of_older.sum()), "thresholds": thresholds}}
    return {
        "format": FORMAT,
        "version": _VERSIONS[index.older is not None],
        "tool": f"facenet-jax {__version__}",
        "embedder": {"spec": index.spec, "step": index.step, "name": index.name, "digest": index.digest},
        "crop": index.crop,
        "embedding_size": index.vectors.size,
        "step": index.vectors.step,
        "clipped": index.vectors.clipped,
        "rounding": index.vectors.rounding,
        "people": len(index.people),
        "faces": len(index.files),
        "thresholds": [asdict(threshold) for threshold in index.thresholds],
        **older,
        "files": files,
    }


def _signed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with a digest of all other entries, by which damage and edits by hand are noticed."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return rest | {"sha256": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
