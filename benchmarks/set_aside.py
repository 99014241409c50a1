"""Sets identities aside that are judged at the end and never trained on, always the same ones, chosen by name."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from facenet_jax.datasets.folder import FolderSource
from facenet_jax.datasets.prepared import PreparedSource
from facenet_jax.errors import InputError
from facenet_jax.images.decode import BadFace, decode
from facenet_jax.runtime.files import write_whole

MOST, MIN_FACES = 150, 5
_FEWEST = 2  # for a pair of different people
_LIST = "reserved.txt"


@dataclass(frozen=True)
class SetAside:
    """The people set aside.

    Attributes:
      folder: `<person>/<image>`, their faces that can be decoded: links to those of a folder, copies of those of a
        prepared dataset.
      names: a text file with the people's names, as `config.data.exclude` takes it.
      people: how many.
      bad: how many of their faces cannot be decoded.
    """

    folder: Path
    names: Path
    people: int
    bad: int


def chosen_people(source: FolderSource | PreparedSource) -> list[int]:
    """Numbers of 150 identities with five faces or more, or of a third of them if there are few.

    Raises:
      InputError: fewer than six identities have five faces.
    """
    index = source.index
    able = [number for number, count in enumerate(index.counts.tolist()) if count >= MIN_FACES]
    if len(able) < 3 * _FEWEST:
        raise InputError(
            f"{source.root} has {len(able)} identities with {MIN_FACES} faces; {3 * _FEWEST} are needed to set some "
            "aside and train on others. Train without: facenet-jax train --config=recipe_cpu --config.data.min_faces=2."
        )
    by_hash = sorted(able, key=lambda n: hashlib.blake2b(os.fsencode(index.names[n]), key=b"reserved").digest())
    return sorted(by_hash[: min(MOST, len(able) // 3)])


def set_aside(source: FolderSource | PreparedSource, people: list[int], out: Path) -> SetAside:
    """Puts the faces of these people into `<out>/reserved` and their names into `reserved.txt`.

    If they are there already they are left as they are, since another process may be reading them.
    """
    index = source.index
    folder, fresh, names = out / "reserved", out / ".reserved", out / _LIST
    shutil.rmtree(fresh, ignore_errors=True)
    bad = 0
    taken = set(index.names)
    free = (name for name in (f"set-aside-{place:04d}" for place in itertools.count()) if name not in taken)
    for number in people:
        # A folder's own names are used. Those of a prepared dataset may not be valid file names and are replaced, by
        # names that no person there has: an evaluation leaves out people with the name of somebody trained on.
        person = fresh / (index.names[number] if isinstance(source, FolderSource) else next(free))
        person.mkdir(parents=True)
        for record in range(int(index.offsets[number]), int(index.offsets[number + 1])):
            bad += not _put(source, record, person)
    if _contents(fresh) == _contents(folder):
        shutil.rmtree(fresh)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    lines = sorted(os.fsencode(index.names[number]) for number in people)
    write_whole(names, b"\n".join(lines) + b"\n")
    return SetAside(folder, names, len(people), bad)


def _contents(folder: Path) -> set[tuple[str, str | bytes]]:
    """Every file with its content, or with its target if it is a link; also folders without a face."""
    found: set[tuple[str, str | bytes]] = set()
    for path in folder.rglob("*"):
        what = os.readlink(path) if path.is_symlink() else b"" if path.is_dir() else path.read_bytes()
        found.add((str(path.relative_to(folder)), what))
    return found


def _put(source: FolderSource | PreparedSource, record: int, person: Path) -> bool:
    """Puts a face into the person's folder if it can be decoded; returns whether it could."""
    try:
        if isinstance(source, FolderSource):
            face = Path(source.describe(record))
            decode(str(face), (32, 32))
            (person / face.name).symlink_to(face.resolve())
        else:
            data = source.read(record)
            decode(data, (32, 32))
            suffix = ".jpg" if data.startswith(b"\xff\xd8") else ".png"  # readers go by the content
            (person / f"{record:09d}{suffix}").write_bytes(data)
    except BadFace:
        return False
    return True
