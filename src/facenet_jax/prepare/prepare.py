"""Prepares a source on all cores of one machine: can be stopped, killed, and started again."""

from __future__ import annotations

import os
import signal
import uuid
from dataclasses import dataclass
from pathlib import Path

from facenet_jax.datasets.exclude import RejectedFaces, read_list
from facenet_jax.datasets.names import write_names
from facenet_jax.datasets.open import open_listed
from facenet_jax.datasets.prepared import NAMES
from facenet_jax.datasets.source import ListedFaces
from facenet_jax.datasets.walk import in_words, some
from facenet_jax.errors import InputError
from facenet_jax.images.crop import CROPS, Crop
from facenet_jax.images.cut import FaceCutter
from facenet_jax.prepare.job import PARTS, TOOL, Job, Workplace, faces_a_shard
from facenet_jax.prepare.merge import merge_shards, summary_if_finished
from facenet_jax.prepare.shards import ShardWriter, clean
from facenet_jax.prepare.summary import DatasetSummary
from facenet_jax.prepare.workers import write_shards
from facenet_jax.runtime.cores import usable_cores
from facenet_jax.runtime.files import check_outside
from facenet_jax.runtime.progress import Progress

# More than any machine has cores.
_MOST_WORKERS = 4096
# As many pixels a side as the largest network of the paper takes.
DEFAULT_SIZE = 224


@dataclass(frozen=True)
class PrepareResult:
    """How a call of `prepare` ended.

    Attributes:
      summary: of the whole dataset, if it is finished.
      signal: which asked it to stop before it was done, if one did.
      faces: of the source, done by this call.
      rate: of these, a second.
    """

    summary: DatasetSummary | None
    signal: signal.Signals | None = None
    faces: int = 0
    rate: float = 0.0


def prepare(
    source: Path,
    out: Path,
    *,
    crop: Crop = "tight",
    size: int = DEFAULT_SIZE,
    detector: Path | None = None,
    exclude: Path | None = None,
    workers: int | None = None,
    share: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> PrepareResult:
    """Prepares a source into a folder, or resumes where it stopped; the bytes are the same as if it never had.

    Args:
      source: see `open.open_listed`.
      out: the folder; what is in it is kept whole at any moment.
      crop, size: see `crop.crop_face`.
      detector: a YuNet model instead of the published one.
      exclude: a list of identities and faces (places within the source) to pass over, one a line.
      workers: processes; 0 works in this one, None takes one a core.
      share: (i, n): prepare only the i-th of n shares, counted from 0; `merge.merge` joins them in the end.
      progress: where to report progress.

    Raises:
      InputError: the source, the options or the folder do not fit, or another process prepares into it.
      OSError: the disk is full, or the like; what was done before is kept.
    """
    _check(source, out, crop, size, share, workers)
    progress = progress or Progress()
    cutter = FaceCutter(crop, detector_file=detector)
    weights = cutter.detector.digest if cutter.detects else None  # what is missing is named before any work
    faces = _open(source, exclude, progress)
    job = Job(
        tool=TOOL,
        source_kind=faces.kind,
        source_digest=faces.digest,
        source_faces=faces.index.records,
        source_ignored=faces.ignored,
        identities=len(faces.index.names),
        crop=crop,
        size=0 if crop == "none" else size,
        detector=weights,
        part_faces=faces_a_shard(faces.index.records),
    )
    place = Workplace(out, share)
    try:
        job = place.begin(job)
        finished = summary_if_finished(out)
        if finished is not None:
            return PrepareResult(finished)
        clean(out, share)
        _keep_names(out, faces)
        writer = ShardWriter(out, job.shards, faces.reader, cutter, size)
        asked, done, rate = write_shards(
            job, faces, writer, share, usable_cores() if workers is None else workers, progress
        )
        summary = merge_shards(out, job, progress) if asked is None and share[1] == 1 else None
        return PrepareResult(summary, asked, done, rate)
    finally:
        place.close()


def _check(source: Path, out: Path, crop: str, size: int, share: tuple[int, int], workers: int | None) -> None:
    if crop not in CROPS:
        raise InputError(f"There is no crop {crop!r}: choose one of {', '.join(CROPS)}.")
    if not 16 <= size <= 4096:
        raise InputError(f"--size={size}: choose a side between 16 and 4,096 pixels.")
    if workers is not None and not 0 <= workers <= _MOST_WORKERS:
        raise InputError(
            f"--workers={str(workers)[:40]}: choose 0 (this process) or a number of processes up to {_MOST_WORKERS:,}."
        )
    if not 0 <= share[0] < share[1]:
        raise InputError(f"--shard={share[0]}/{share[1]}: of n shares the first is 0/n and the last (n-1)/n.")
    check_outside(out, source)


def _open(source: Path, exclude: Path | None, progress: Progress) -> ListedFaces:
    progress.line(f"listing {source}")
    faces = open_listed(source)
    if faces.passed_over:
        progress.say(f"passed over {in_words(faces.passed_over)}")
    if faces.without_images:
        progress.say(f"there are no images of {some(faces.without_images)}")
    if exclude is None:
        return faces
    kept = RejectedFaces(faces, read_list(exclude, "--exclude"), f"--exclude={exclude}")
    if unknown := kept.named.unknown:
        first = kept.named.some_unknown()
        progress.say(f"{len(unknown):,} of the names in {exclude} match no identity or face, such as {first}")
    return kept


def _keep_names(out: Path, source: ListedFaces) -> None:
    # At once, because who merges the shares in the end need not have the source.
    (out / PARTS).mkdir(exist_ok=True)
    stem = out / NAMES
    stem.parent.mkdir(exist_ok=True)
    if Path(f"{stem}.npy").exists():
        return
    # Processes on two machines that share the folder may have the same number.
    temporary = stem.with_name(f".{stem.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    write_names(temporary, source.index.names, len(source.index.names))
    for suffix in (".txt", ".npy"):
        Path(f"{temporary}{suffix}").replace(f"{stem}{suffix}")
