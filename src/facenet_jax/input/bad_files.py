"""Faces that cannot be decoded: counted, listed once each, and fatal when they are too many."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from facenet_jax.datasets.source import FaceSource
from facenet_jax.errors import InputError
from facenet_jax.images.decode import Reason
from facenet_jax.input.loader import Batch
from facenet_jax.runtime.files import append
from facenet_jax.runtime.hosts import joined

FILE_NAME = "bad_files.txt"

# Shares of fewer faces than this say little: one bad file in a batch of eight is no reason to stop.
_FACES_TO_JUDGE_BY = 1000


class BadFiles:
    """Keeps account of the faces seen and of those that cannot be decoded.

    Each bad file is appended to `bad_files.txt` when it is first met: its path, a tab and the reason. A resumed run
    reads what is there and repeats nothing. In a job of several processes each sees rows of its own and keeps a list of
    its own, those after the first `bad_files-<process>.txt`: in a bucket, one would write over the other's lines.

    The share of bad faces is that among the faces seen by this run so far, one that is met again counted again, or
    their number over 1,000 (or all faces of the source, if those are fewer) while fewer have been seen. So only the bad
    ones are remembered: a mark for each face would take 200 MB of 200 million.

    Attributes:
      seen: how many faces have been seen, in all batches together.
      bad: how many of these were bad.
      reasons: record -> Reason, for each bad one.

    Args:
      source: where the faces come from.
      directory: the working directory, which exists.
      max_bad_share: the greatest share of bad faces that is tolerated, in [0, 1].
      process: which of the job's processes lists them, from 0; None: this one.
    """

    def __init__(
        self, source: FaceSource, directory: Path, max_bad_share: float = 0.05, process: int | None = None
    ) -> None:
        if not 0 <= max_bad_share <= 1:
            raise InputError(f"data.max_bad_share is {max_bad_share}: choose a share between 0 and 1.")
        self._source = source
        self._path = directory / _file_name(process)
        self._max_bad_share = max_bad_share
        self._listed = self._read()
        self.seen = self.bad = 0
        self.reasons: dict[int, Reason] = {}

    def update(self, batch: Batch) -> None:
        """Counts a batch's faces and lists those that are newly found bad.

        Args:
          batch: this host's rows.

        Raises:
          InputError: more faces are bad than max_bad_share allows.
        """
        self.seen += int(np.count_nonzero(batch.records >= 0))
        self.bad += int(np.count_nonzero(batch.status))
        bad = {
            int(record): Reason(int(status))
            for record, status in zip(batch.records, batch.status, strict=True)
            if status and int(record) not in self.reasons
        }
        if not bad:
            return
        self.reasons |= bad
        self._append(bad)
        judged_by = max(self.seen, min(_FACES_TO_JUDGE_BY, self._source.index.records))
        if self.bad > self._max_bad_share * judged_by:
            raise InputError(
                f"{self.bad} of the {self.seen} faces seen cannot be decoded, more than the "
                f"{self._max_bad_share:.0%} allowed: see {self._path}, and repair or remove these files or raise "
                "data.max_bad_share."
            )

    def _read(self) -> set[str]:
        if not self._path.exists():
            return set()
        lines = self._path.read_bytes().decode("utf-8", "surrogateescape").split("\n")[:-1]
        return {line.rpartition("\t")[0] for line in lines}

    def _append(self, bad: dict[int, Reason]) -> None:
        lines = []
        for record, reason in bad.items():
            # One line a file, whatever characters its name is made of.
            path = self._source.describe(record).replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
            if path not in self._listed:
                self._listed.add(path)
                lines.append(f"{path}\t{reason.words}\n")
        append(self._path, "".join(lines).encode("utf-8", "surrogateescape"))


def _file_name(process: int | None) -> str:
    if process is None:
        process = jax.process_index() if joined() else 0
    return FILE_NAME.replace(".", f"-{process}.") if process else FILE_NAME
