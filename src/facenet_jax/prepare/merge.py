"""Merges shards into one dataset: the index, the lists, the summary, and the card last."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.datasets.names import Names, write_names
from facenet_jax.datasets.prepared import (
    CARD_FILE,
    CONTENTS,
    FILES,
    INDEX,
    JOB_FILE,
    LOOKS,
    NAMES,
    OFFSETS,
    Card,
    is_prepared,
    shard_name,
)
from facenet_jax.datasets.walk import some
from facenet_jax.errors import InputError
from facenet_jax.images.decode import Reason
from facenet_jax.prepare.duplicates import Copies, find_copies
from facenet_jax.prepare.job import PARTS, Job, Workplace, read_job
from facenet_jax.prepare.shards import ShardRecords, read_records, records_file
from facenet_jax.prepare.summary import (
    DUPLICATES_FILE,
    FALLBACKS_FILE,
    REJECTS_FILE,
    REPORT_FILE,
    DatasetSummary,
    histogram,
    read_summary,
)
from facenet_jax.runtime.files import ArrayWriter, sync, write_whole
from facenet_jax.runtime.progress import Progress, Tally


@dataclass
class _Counts:
    """Counts of all shards: their records and bytes, the faces of each identity, and what the summary says."""

    of_identity: NDArray[np.int64]
    shard_records: list[int] = field(default_factory=list)
    shard_bytes: list[int] = field(default_factory=list)
    rejects: Counter[str] = field(default_factory=Counter)
    fallbacks: int = 0
    several_faces: int = 0


def merge(out: Path, progress: Progress | None = None) -> DatasetSummary:
    """Joins the shares that `prepare` made with `share=(i, n)` into one dataset.

    Raises:
      InputError: nothing was prepared there, a share is not done, or another process works there.
    """
    job = read_job(out)
    if job is None and not is_prepared(out):
        raise InputError(f"Nothing was prepared in {out}: run facenet-jax prepare SOURCE {out} --shard i/n first.")
    place = Workplace(out)
    try:
        finished = summary_if_finished(out)
        if finished is not None:
            return finished
        assert job is not None
        return merge_shards(out, job, progress or Progress())
    finally:
        place.close()


def summary_if_finished(out: Path) -> DatasetSummary | None:
    """The summary of a finished dataset, after removing what is left of making it; None if it is not finished."""
    if not is_prepared(out):
        return None
    _tidy(out)
    return read_summary(out)


def merge_shards(out: Path, job: Job, progress: Progress) -> DatasetSummary:
    """Makes a dataset of the shards of a job, whose records' files are then removed. The caller holds the folder.

    Raises:
      InputError: shards are missing or damaged.
    """
    missing = [number for number in range(job.shards) if not records_file(out, number).exists()]
    if missing:
        raise InputError(
            f"{len(missing):,} of the {job.shards:,} shards of {out} are not done (the first is {missing[0]}): run "
            "`facenet-jax prepare` with each --shard i/n again, and then merge."
        )
    counts = _count(out, job, progress)
    offsets = np.concatenate([[0], np.cumsum(counts.of_identity)]).astype(np.int64)
    np.save(out / OFFSETS, offsets)
    index = IdentityIndex(Names(out / NAMES), offsets)
    _write_records(out, job, index)
    if not index.records:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.rejects.items()))
        where = "; a manifest's paths start at its folder" if Reason.MISSING.words in counts.rejects else ""
        raise InputError(
            f"None of the {job.source_faces:,} faces can be decoded: see {out / REJECTS_FILE} ({reasons}{where})."
        )
    if len(empty := np.flatnonzero(counts.of_identity == 0)):
        progress.say(f"without a face are {some([index.names[identity] for identity in empty.tolist()])}")
    contents = np.load(out / CONTENTS, mmap_mode="r")
    copies = find_copies(contents, offsets)
    _write_duplicates(out, index, copies)
    summary = DatasetSummary(
        crop=job.crop,
        size=job.size,
        identities=int(np.count_nonzero(counts.of_identity)),
        empty_identities=int(np.count_nonzero(counts.of_identity == 0)),
        faces=index.records,
        ignored=job.source_ignored,
        rejects=dict(sorted(counts.rejects.items())),
        fallbacks=counts.fallbacks,
        several_faces=counts.several_faces,
        duplicates_within=int(np.count_nonzero(copies.within)),
        duplicates_across=int(np.count_nonzero(~copies.within)),
        histogram=histogram(counts.of_identity[counts.of_identity > 0]),
    )
    write_whole(out / REPORT_FILE, summary.to_json())
    card = Card(
        **asdict(job),
        records=index.records,
        digest=_digest(out, job, offsets, contents),
        shard_records=counts.shard_records,
        shard_bytes=counts.shard_bytes,
    )
    for file in (out / INDEX).iterdir():
        sync(file)
    write_whole(out / CARD_FILE, card.to_json())
    _tidy(out)
    return summary


def _count(out: Path, job: Job, progress: Progress) -> _Counts:
    counts = _Counts(np.zeros(job.identities, np.int64))
    tally = Tally(progress, "merging", job.shards)
    for number in range(job.shards):
        held = _read(out, number)
        shard = out / shard_name(number, job.shards)
        if not shard.exists() or shard.stat().st_size != held.shard_bytes:
            records_file(out, number).unlink()
            raise InputError(
                f"{shard} is not as it was written: run the same `facenet-jax prepare` again to repair it."
            )
        np.add.at(counts.of_identity, held.identities, 1)
        counts.shard_records.append(len(held.identities))
        counts.shard_bytes.append(held.shard_bytes)
        counts.rejects.update(reason.words for reason in held.reasons)
        counts.fallbacks += int(held.fallback.sum())
        counts.several_faces += int((held.faces > 1).sum())
        tally.update(number + 1)
    return counts


def _read(out: Path, number: int) -> ShardRecords:
    file = records_file(out, number)
    try:
        return read_records(file)
    except Exception as error:  # what a damaged archive raises is not written down
        file.unlink(missing_ok=True)
        raise InputError(f"{file} was damaged: run the same `facenet-jax prepare` again to repair it.") from error


def _write_records(out: Path, job: Job, index: IdentityIndex) -> None:
    """The index's arrays and names, and the lists of rejects and fallbacks, shard by shard."""
    with ExitStack() as stack:
        contents = stack.enter_context(ArrayWriter(out / CONTENTS, np.uint8, (index.records, 16)))
        looks = stack.enter_context(ArrayWriter(out / LOOKS, np.uint16, (index.records, 16)))
        rejects = _list(stack, out / REJECTS_FILE, "file", "reason")
        fallbacks = _list(stack, out / FALLBACKS_FILE, "file", "identity")

        def places() -> Iterator[str]:
            for number in range(job.shards):
                held = _read(out, number)
                contents.append(held.contents)
                looks.append(held.looks)
                rejects.writerows(zip(held.rejected, (reason.words for reason in held.reasons), strict=True))
                for record in np.flatnonzero(held.fallback):
                    fallbacks.writerow((held.places[record], index.names[int(held.identities[record])]))
                yield from held.places

        write_names(out / FILES, places(), index.records)


def _write_duplicates(out: Path, index: IdentityIndex, copies: Copies) -> None:
    files = Names(out / FILES)
    with ExitStack() as stack:
        duplicates = _list(stack, out / DUPLICATES_FILE, "file", "identity", "same_as", "identity_of_same", "kind")
        for record, original, within in zip(*(column.tolist() for column in copies), strict=True):
            of = [(files[one], index.names[int(index.identity_of(np.array(one)))]) for one in (record, original)]
            duplicates.writerow((*of[0], *of[1], "within" if within else "across"))


def _list(stack: ExitStack, file: Path, *columns: str) -> Any:
    stream = stack.enter_context(file.open("w", encoding="utf-8", errors="surrogateescape", newline=""))
    rows = csv.writer(stream)
    rows.writerow(columns)
    return rows


def _digest(out: Path, job: Job, offsets: NDArray[np.int64], contents: NDArray[np.uint8]) -> str:
    digest = hashlib.blake2b(f"{job.crop} {job.size} {job.detector}".encode(), digest_size=16)
    digest.update(Path(f"{out / NAMES}.txt").read_bytes())
    digest.update(offsets.tobytes())
    for first in range(0, len(contents), 2**20):
        digest.update(contents[first : first + 2**20].tobytes())
    return digest.hexdigest()


def _tidy(out: Path) -> None:
    """Removes what a finished dataset does not need."""
    (out / JOB_FILE).unlink(missing_ok=True)
    shutil.rmtree(out / PARTS, ignore_errors=True)
