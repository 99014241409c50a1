"""Counts of a prepared dataset, for its file and for the screen."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError
from facenet_jax.runtime.json_files import checked, read_json

REPORT_FILE = "report.json"
FIGURE_FILE = "identities.png"
REJECTS_FILE = "rejects.csv"
FALLBACKS_FILE = "fallbacks.csv"
DUPLICATES_FILE = "duplicates.csv"
_BAR = 40


@dataclass(frozen=True)
class DatasetSummary:
    """Counts of a prepared dataset.

    Attributes:
      crop, size: how faces were cut.
      identities: those with a face.
      empty_identities: those whose faces were all rejected.
      faces: records.
      ignored: entries of the source that are not images.
      rejects: how many faces did not become records, by reason in words.
      fallbacks: how many are the centre because no face was found.
      several_faces: of how many pictures with several faces one was cut.
      duplicates_within: records with the bytes of an earlier one of the same identity.
      duplicates_across: records with the bytes of an earlier one, all of other identities.
      histogram: [[least faces, most faces, identities], ...].
    """

    crop: str
    size: int
    identities: int
    empty_identities: int
    faces: int
    ignored: int
    rejects: dict[str, int]
    fallbacks: int
    several_faces: int
    duplicates_within: int
    duplicates_across: int
    histogram: list[list[int]]

    def __post_init__(self) -> None:
        if any(len(row) != 3 for row in self.histogram):
            raise ValueError("a bin of its histogram is not three numbers")

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_summary(out: Path) -> DatasetSummary:
    """The summary in a folder.

    Raises:
      InputError: it is missing or damaged.
    """
    file = out / REPORT_FILE
    try:
        return checked(DatasetSummary, read_json(file))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{file} cannot be read ({error}); the dataset in {out} may be whole all the same.") from error


def histogram(counts: NDArray[np.int64]) -> list[list[int]]:
    """Identities by their number of faces: [[least, most, identities], ...], each bin twice as wide as the one before.

    Args:
      counts: int64 [identities], those without faces left out.
    """
    bins = []
    least = 1
    while counts.size and least <= counts.max():
        most = 2 * least - 1
        bins.append([least, most, int(np.count_nonzero((counts >= least) & (counts <= most)))])
        least = most + 1
    return bins


def format_summary(summary: DatasetSummary, out: Path) -> str:
    """The summary as a table for the screen."""
    size = f", {summary.size} x {summary.size} pixels" if summary.size else ""
    rows = [("prepared", f"{summary.faces:,} faces of {summary.identities:,} identities (crop {summary.crop}{size})")]
    if summary.empty_identities:
        rows.append(("", f"{summary.empty_identities:,} identities are left without a face"))
    if summary.ignored:
        rows.append(("passed over", f"{summary.ignored:,} entries that are not images in an identity's folder"))
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary.rejects.items())
    rejected = sum(summary.rejects.values())
    rows.append(("rejected", f"{rejected:,}" + (f": {reasons} ({out / REJECTS_FILE})" if rejected else "")))
    if summary.crop in ("tight", "similarity"):
        where = f" ({out / FALLBACKS_FILE})" if summary.fallbacks else ""
        rows.append(("no face found", f"{summary.fallbacks:,}, of which the centre was cut{where}"))
        rows.append(("several faces", f"{summary.several_faces:,}, of which the largest near the centre was cut"))
    where = f" ({out / DUPLICATES_FILE})" if summary.duplicates_within + summary.duplicates_across else ""
    rows.append(
        (
            "same bytes",
            f"{summary.duplicates_within:,} within an identity, {summary.duplicates_across:,} across identities{where}",
        )
    )
    lines = [f"{name:<16}{words}" for name, words in rows]
    lines.append("faces           identities")
    most = max((count for *_, count in summary.histogram), default=0)
    for least, up_to, count in summary.histogram:
        label = f"{least:,}" if least == up_to else f"{least:,} to {up_to:,}"
        lines.append(f"  {label:<14}{count:>10,}  {'#' * -(-_BAR * count // most) if count else ''}".rstrip())
    return "\n".join(lines)
