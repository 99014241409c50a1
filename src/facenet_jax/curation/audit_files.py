"""Writes the findings of an audit: a list of faces to leave out, JSON and CSV, and a table for the screen."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facenet_jax.curation.audit import EXCLUDE_FROM, Findings
from facenet_jax.runtime.files import write_whole

FINDINGS_FILE, JSON_FILE, EXCLUDE_FILE, PAGE_FILE = "findings.csv", "audit.json", "exclude.txt", "audit.html"
OWN_FILES = (FINDINGS_FILE, JSON_FILE, EXCLUDE_FILE, PAGE_FILE)
_COLUMNS = ("kind", "suspicion", "distance", "face", "identity", "other_face", "other_identity", "excluded")
# A larger share of suspects than the worst public sets have: the embedder is more likely wrong than the labels.
_BELIEVABLE = 0.25


def write_findings(found: Findings, out: Path) -> None:
    """Writes all but the page: the table, the JSON file, and the list that `prepare` and `train` take."""
    document = _document(found)
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    table.writerows(_rows(document))
    write_whole(out / FINDINGS_FILE, text.getvalue())
    write_whole(out / JSON_FILE, json.dumps(document, indent=1, allow_nan=False) + "\n")
    # A name with a line break does not fit on a line.
    lines = [found.files[face] for face in np.flatnonzero(found.excluded).tolist() if "\n" not in found.files[face]]
    write_whole(out / EXCLUDE_FILE, "".join(f"{line}\n" for line in lines))


def _rows(document: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The lines of the table, one a face or a pair, in `_COLUMNS`."""
    for one in document["wrong_labels"]:
        where = one["own_distance"], one["face"], one["identity"], "", one["nearer_to"]
        yield "wrong label", one["suspicion"], *where, one["excluded"]
    for one in document["merged"]:
        for face in one["smaller_part"]:
            yield "merged", one["suspicion"], one["distance"], face, one["identity"], "", "", ""
    for one in document["split"]:
        yield "split", one["suspicion"], one["distance"], "", one["identities"][0], "", one["identities"][1], ""
    for kind, key in (("copy", "copies"), ("near copy", "near_copies")):
        for one in document[key]:
            where = one["distance"], one["face"], one["identity"], one["other"], one["other_identity"]
            yield kind, "", *where, one["excluded"]


def _document(found: Findings) -> dict[str, Any]:
    """All findings, as plain values."""
    near, suspicion = found.near, found.near.suspicion

    def pair(one: int, other: int, distance: float) -> dict[str, Any]:
        return {
            "face": found.files[one],
            "identity": found.name(one),
            "other": found.files[other],
            "other_identity": found.name(other),
            "distance": round(distance, 6),
            "excluded": bool(found.excluded[one]),
        }

    return {
        "dataset": found.dataset,
        "embedder": found.embedder,
        "faces": len(found.files),
        "identities": len(np.unique(found.identity)),
        "not_judged_alone_of_their_identity": int(np.isnan(near.own).sum()),
        "typical_distance_own": round(near.typical_own, 6),
        "typical_distance_nearest_other": round(near.typical_other, 6),
        "excluded": int(found.excluded.sum()),
        "excluded_from_suspicion": EXCLUDE_FROM,
        "bad": [list(one) for one in found.bad],
        "caution": caution(found),
        "wrong_labels": [
            {
                "face": found.files[face],
                "identity": found.name(face),
                "nearer_to": found.names[int(near.nearest[face])],
                "suspicion": round(float(suspicion[face]), 4),
                "own_distance": round(float(near.own[face]), 6),
                "other_distance": round(float(near.other[face]), 6),
                "excluded": bool(found.excluded[face]),
            }
            for face in found.wrong.tolist()
        ],
        "merged": [
            {
                "identity": found.names[one.identity],
                "suspicion": round(one.suspicion, 4),
                "distance": round(one.distance, 6),
                "larger_part": [found.files[face] for face in one.parts[0].tolist()],
                "smaller_part": [found.files[face] for face in one.parts[1].tolist()],
            }
            for one in found.merged
        ],
        "split": [
            {
                "identities": [found.names[number] for number in one.identities],
                "suspicion": round(one.suspicion, 4),
                "distance": round(one.distance, 6),
            }
            for one in found.split
        ],
        "copies": [pair(one, other, 0.0) for one, other in found.copies.tolist()],
        "near_copies": [
            pair(one, other, distance)
            for (one, other), distance in zip(found.near_copies.tolist(), found.distances.tolist(), strict=True)
        ],
    }


def format_findings(found: Findings) -> str:
    """A table for the screen."""
    across = int(np.sum(found.identity[found.copies[:, 0]] != found.identity[found.copies[:, 1]]))
    singles = int(np.isnan(found.near.own).sum())
    sure = int(np.sum(found.near.suspicion[found.wrong] >= EXCLUDE_FROM))
    rows = [
        ("audited", f"{len(found.files):,} faces of {len(np.unique(found.identity)):,} identities by {found.embedder}"),
        ("", f"typical squared distance from the own identity {found.near.typical_own:.3f}, "
             f"from the nearest other {found.near.typical_other:.3f}"),
        ("wrong labels", f"{len(found.wrong):,} faces nearer to another identity, {sure:,} of them surely so"),
        ("merged", f"{len(found.merged):,} identities of probably two people"),
        ("split", f"{len(found.split):,} pairs of identities of probably one person"),
        ("copies", f"{len(found.copies):,} of the same bytes, {across:,} of them under another identity; "
                   f"{len(found.near_copies):,} pairs that are nearly the same"),
    ]  # fmt: skip
    if singles:
        rows.append(("not judged", f"{singles:,} faces that are alone in their identity"))
    if found.bad:
        first = ", ".join(f"{file} ({reason})" for file, reason in found.bad[:3])
        rows.append(("rejected", f"{len(found.bad):,} images: {first}{', ...' if len(found.bad) > 3 else ''}"))
    rows.append(("to leave out", f"{int(found.excluded.sum()):,} faces in {EXCLUDE_FILE}"))
    if words := caution(found):
        rows.append(("doubtful", words))
    return "\n".join(f"{name:<16}{words}" for name, words in rows)


def caution(found: Findings) -> str:
    """A warning about an audit that should not be trusted; empty for others."""
    share = len(found.wrong) / max(int(np.sum(~np.isnan(found.near.own))), 1)
    if share <= _BELIEVABLE:
        return ""
    return (
        f"{share:.0%} of the faces are nearer to another identity: either labels are that bad or, more likely, this "
        "embedder does not tell these faces apart; leave nothing out before another one says the same."
    )
