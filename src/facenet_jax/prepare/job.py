"""The job of preparing a folder: begun once and resumed, its folder locked for one process a share."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import IO

from facenet_jax import __version__
from facenet_jax.datasets.prepared import JOB_FILE, Origin, is_prepared, read_card
from facenet_jax.errors import InputError
from facenet_jax.runtime.files import LOCK, lock, new_folder, write_whole
from facenet_jax.runtime.json_files import checked, read_json

TOOL = f"facenet-jax {__version__}"
PARTS = Path("parts")  # files of shards' records, until they are merged

# Faces that one process makes a shard from: few enough that a small set keeps all cores busy and that little is
# lost when a process is killed, many enough that 200 million faces do not become a million files.
_MOST_FACES, _LEAST_FACES, _SHARDS = 8192, 256, 128


class Job(Origin):
    """A dataset that is being made."""

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.source_faces // self.part_faces)

    def faces_of(self, number: int) -> range:
        """The faces of the source that a shard is made from."""
        start = number * self.part_faces
        return range(start, min(start + self.part_faces, self.source_faces))


def faces_a_shard(faces: int) -> int:
    """How many of all `faces` of a source make a shard."""
    return min(_MOST_FACES, max(_LEAST_FACES, -(-faces // _SHARDS)))


class Workplace:
    """A folder that is prepared into, held by this process: alone, or for the share i of n.

    Args:
      out: the folder; it is made.
      share: (i, n).

    Raises:
      InputError: it cannot be written, or another process prepares into it.
    """

    def __init__(self, out: Path, share: tuple[int, int] = (0, 1)) -> None:
        self.out = out
        self._locks: list[IO[str]] = []
        self._folder, self._alone = ExitStack(), False
        try:
            self._folder.enter_context(new_folder(out))
            alone = share[1] == 1
            self._lock(LOCK, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            self._alone = alone
            if not alone:
                self._lock(f"{LOCK}-{share[0]}-of-{share[1]}", fcntl.LOCK_EX)
        except BlockingIOError as error:
            self.close()
            raise InputError(
                f"another process prepares into {out}; wait for it, give another folder, or share the work with "
                "--shard i/n, a different i each."
            ) from error
        except OSError as error:
            self.close()
            raise InputError(f"{out} cannot be written ({error.strerror}); give another folder.") from error

    def _lock(self, name: str, kind: int) -> None:
        file = (self.out / name).open("a+")  # NFS locks what can be read for LOCK_SH, and written for LOCK_EX
        self._locks.append(file)
        lock(file, kind)

    def close(self) -> None:
        """Lets others in."""
        if self._alone and os.listdir(self.out) == [LOCK]:  # it was refused: nothing of it stays
            (self.out / LOCK).unlink()
        self._alone = False
        for file in self._locks:
            file.close()
        self._locks.clear()
        self._folder.close()

    def begin(self, job: Job) -> Job:
        """Starts the job, or resumes it.

        Returns:
          The job as it was first begun: how many entries of the source are not images may have changed since.

        Raises:
          InputError: the folder holds another job, another dataset, or something else altogether.
        """
        before = read_job(self.out)
        if before is not None:
            return _same(self.out, before, job)
        if is_prepared(self.out):
            card = read_card(self.out)
            return _same(self.out, Job(**{field.name: getattr(card, field.name) for field in fields(Job)}), job)
        strange = sorted(entry for entry in os.listdir(self.out) if not entry.startswith("."))
        if strange:
            before = read_job(self.out)  # again: another share may have begun it since
            if before is not None:
                return _same(self.out, before, job)
            raise InputError(
                f"{self.out} is not empty (it has {strange[0]}) and no prepared dataset; give a new folder."
            )
        write_whole(self.out / JOB_FILE, json.dumps(asdict(job), indent=1) + "\n")
        return job


def read_job(out: Path) -> Job | None:
    """The job to resume in a folder, or None.

    Raises:
      InputError: its file is damaged.
    """
    file = out / JOB_FILE
    try:
        return checked(Job, read_json(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{file} cannot be read ({error}); remove {out} and prepare it again.") from error


def _same(out: Path, before: Job, now: Job) -> Job:
    """The job of before, if it is that of now."""
    now = replace(now, source_ignored=before.source_ignored)  # a stray Thumbs.db changes nothing about the faces
    if before == now:
        return before
    old, new = asdict(before), asdict(now)
    if old["source_digest"] != new["source_digest"]:
        raise InputError(
            f"{out} was begun from other faces ({before.source_faces:,}, not {now.source_faces:,}, or under other "
            "names, or with another --exclude): restore that, or give another folder."
        )
    lines = [f"{key}={old[key]}, now {new[key]}" for key in old if old[key] != new[key]]
    raise InputError(f"{out} was begun with {'; '.join(lines)}: give the same again, or another folder.")
