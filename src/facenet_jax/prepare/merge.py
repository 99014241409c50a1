"""Shards -> one dataset: the index, the lists, the summary, and last the card."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from facenet_jax.errors import InputError
from facenet_jax.prepare.duplicates import find_copies
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
        if is_prepared(out):
            tidy(out)
            return read_summary(out)
        assert job is not None
        return merge_shards(out, job, progress or Progress())
    finally:
        place.close()


def merge_shards(out: Path, job: Job, progress: Progress) -> DatasetSummary:
    """Makes a dataset of the shards of a job, whose records' files are then removed. The caller holds the folder.

    Raises:
      InputError: shards are missing or damaged.
    """
    missing = [number for number in range(job.shards) if not records_file(out, number).exists()]
    if missing:
        raise InputError(
            f"{len(missing):,} of the {job.shards:,} shards of {out} are not done (the first is {missing[0]}): give "
            "`facenet-jax prepare` with each --shard i/n once more, and then merge."
        )
    shard_records, shard_bytes, counts, tallies = _count(out, job, progress)
    records = sum(shard_records)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    np.save(out / OFFSETS, offsets)
    names = Names(out / NAMES)
    with ExitStack() as stack:
        contents = stack.enter_context(ArrayWriter(out / CONTENTS, np.uint8, (records, 16)))
        looks = stack.enter_context(ArrayWriter(out / LOOKS, np.uint16, (records, 16)))
        rejects = _list(stack, out / REJECTS_FILE, "file", "reason")
        fallbacks = _list(stack, out / FALLBACKS_FILE, "file", "identity")
        write_names(out / FILES, _files(out, job, contents, looks, names, rejects, fallbacks), records)
    if not records:
        raise InputError(f"None of the {job.source_faces:,} faces can be decoded: see {out / REJECTS_FILE}.")
    held = np.load(out / CONTENTS, mmap_mode="r")
    copies = find_copies(held, offsets)
    files = Names(out / FILES)
    with ExitStack() as stack:
        duplicates = _list(stack, out / DUPLICATES_FILE, "file", "identity", "same_as", "identity_of_same", "kind")
        identity, original = (
            np.searchsorted(offsets, records, side="right") - 1 for records in (copies.records, copies.originals)
        )
        for row in range(len(copies.records)):
            duplicates.writerow(
                (
                    files[int(copies.records[row])],
                    names[int(identity[row])],
                    files[int(copies.originals[row])],
                    names[int(original[row])],
                    "within" if copies.within[row] else "across",
                )
            )
    summary = DatasetSummary(
        job.crop,
        job.size,
        int(np.count_nonzero(counts)),
        int(np.count_nonzero(counts == 0)),
        records,
        job.source_ignored,
        {words: tallies[words] for words in sorted(tallies) if not words.startswith("_")},
        tallies["_fallbacks"],
        tallies["_several"],
        int(np.count_nonzero(copies.within)),
        int(np.count_nonzero(~copies.within)),
        histogram(counts[counts > 0]),
    )
    write_whole(out / REPORT_FILE, summary.to_json())
    digest = _digest(job, offsets, held, out)
    card = Card(**asdict(job), records=records, digest=digest, shard_records=shard_records, shard_bytes=shard_bytes)
    for file in (out / INDEX).iterdir():
        sync(file)
    write_whole(out / CARD_FILE, card.to_json())
    tidy(out)
    return summary


def tidy(out: Path) -> None:
    """Removes what a finished dataset does not need."""
    (out / JOB_FILE).unlink(missing_ok=True)
    shutil.rmtree(out / PARTS, ignore_errors=True)


def _count(out: Path, job: Job, progress: Progress) -> tuple[list[int], list[int], NDArray[np.int64], Counter[str]]:
    """(records of each shard, bytes of each, faces of each identity, rejects by reason and the like)."""
    shard_records, shard_bytes = [], []
    counts = np.zeros(job.identities, np.int64)
    tallies: Counter[str] = Counter({"_fallbacks": 0, "_several": 0})
    tally = Tally(progress, "merging", job.shards)
    for number in range(job.shards):
        held = _read(out, number)
        shard = out / shard_name(number, job.shards)
        if not shard.exists() or shard.stat().st_size != held.shard_bytes:
            records_file(out, number).unlink()
            raise InputError(
                f"{shard} is not as it was written: give the same `facenet-jax prepare` again to repair it."
            )
        shard_records.append(len(held.identities))
        shard_bytes.append(held.shard_bytes)
        np.add.at(counts, held.identities, 1)
        tallies.update(reason.words for reason in held.reasons)
        tallies["_fallbacks"] += int(held.fallback.sum())
        tallies["_several"] += int((held.faces > 1).sum())
        tally.update(number + 1)
    return shard_records, shard_bytes, counts, tallies


def _files(
    out: Path, job: Job, contents: ArrayWriter, looks: ArrayWriter, names: Names, rejects: Any, fallbacks: Any
) -> Iterator[str]:
    """The place of each record, while arrays and lists are written."""
    for number in range(job.shards):
        held = _read(out, number)
        contents.append(held.contents)
        looks.append(held.looks)
        rejects.writerows((place, reason.words) for place, reason in zip(held.rejected, held.reasons, strict=True))
        fallbacks.writerows((held.places[at], names[int(held.identities[at])]) for at in np.flatnonzero(held.fallback))
        yield from held.places


def _read(out: Path, number: int) -> ShardRecords:
    file = records_file(out, number)
    try:
        return read_records(file)
    except Exception as error:  # what a damaged archive raises is not written down
        file.unlink(missing_ok=True)
        raise InputError(f"{file} was damaged: give the same `facenet-jax prepare` again to repair it.") from error


def _list(stack: ExitStack, file: Path, *columns: str) -> Any:
    stream = stack.enter_context(file.open("w", encoding="utf-8", errors="surrogateescape", newline=""))
    rows = csv.writer(stream)
    rows.writerow(columns)
    return rows


def _digest(job: Job, offsets: NDArray[np.int64], contents: NDArray[np.uint8], out: Path) -> str:
    digest = hashlib.blake2b(f"{job.crop} {job.size} {job.detector}".encode(), digest_size=16)
    digest.update(Path(f"{out / NAMES}.txt").read_bytes())
    digest.update(offsets.tobytes())
    for first in range(0, len(contents), 2**20):
        digest.update(contents[first : first + 2**20].tobytes())
    return digest.hexdigest()
