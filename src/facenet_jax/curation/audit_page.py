"""Builds the page of an audit: each suspect next to the faces that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facenet_jax.curation.audit import Findings
from facenet_jax.curation.audit_files import EXCLUDE_FILE, FINDINGS_FILE, caution
from facenet_jax.images.decode import BadFace
from facenet_jax.report.page import Cell, Faces, Table, render, thumbnail

# At most this many findings of each kind are shown, the surest first, so that the page can be looked through.
_MOST = 200
_EXEMPLARS = 4
_PART = 10


@dataclass(frozen=True)
class _Finding:
    """A suspect and the faces that it is compared with.

    Attributes:
      score: its suspicion, or the distance of two faces.
      groups: of faces.
      excluded: whether it is in the list of faces to leave out.
    """

    score: str
    groups: Sequence[Faces]
    excluded: bool = False


def build_page(found: Findings) -> str:
    """The whole page; it holds faces, as data URIs."""
    return render(
        "audit.html",
        f"Audit of {found.dataset}",
        found=found,
        counts=_counts(found),
        caution=caution(found),
        most=_MOST,
        exclude_file=EXCLUDE_FILE,
        findings_file=FINDINGS_FILE,
        kinds=(
            ("Probably wrong labels", _wrong(found)),
            ("Probably two people under one name", _merged(found)),
            ("Probably one person under two names", _split(found)),
            ("The same file twice", _pairs(found, found.copies, None)),
            ("Nearly the same picture", _pairs(found, found.near_copies, found.distances)),
        ),
    )


def _counts(found: Findings) -> Table:
    copied = np.zeros(len(found.files), bool)
    copied[found.copies.ravel()] = True
    rows = [
        ("faces", len(found.files), int(found.excluded.sum())),
        ("probably wrong labels", len(found.wrong), int(found.excluded[found.wrong].sum())),
        ("identities of probably two people", len(found.merged), None),
        ("pairs of identities of probably one person", len(found.split), None),
        ("copies of a file", len(found.copies), int(found.excluded[copied].sum())),
        ("pairs of nearly the same pictures", len(found.near_copies), None),
    ]
    return Table(
        ("", "how many", "to leave out"),
        [(name, Cell(f"{count:,}", count), "" if out is None else Cell(f"{out:,}", out)) for name, count, out in rows],
    )


def _wrong(found: Findings) -> list[_Finding]:
    near, suspicion = found.near, found.near.suspicion
    findings = []
    for face in found.wrong[:_MOST].tolist():
        own, other = int(found.identity[face]), int(near.nearest[face])
        label = f"its label: {found.names[own]}, squared distance {near.own[face]:.2f}"
        nearer = f"nearer: {found.names[other]}, squared distance {near.other[face]:.2f}"
        groups = (
            _faces(found, [face], found.files[face], "suspect"),
            _faces(found, _members(found, own, face), label),
            _faces(found, _members(found, other), nearer),
        )
        findings.append(_Finding(f"{suspicion[face]:.2f}", groups, bool(found.excluded[face])))
    return findings


def _merged(found: Findings) -> list[_Finding]:
    findings = []
    for one in found.merged[:_MOST]:
        larger, smaller = one.parts
        groups = (
            _faces(found, larger[:_PART].tolist(), f"{found.names[one.identity]}: {len(larger):,} faces"),
            _faces(found, smaller[:_PART].tolist(), f"squared distance {one.distance:.2f}: {len(smaller):,} faces"),
        )
        findings.append(_Finding(f"{one.suspicion:.2f}", groups))
    return findings


def _split(found: Findings) -> list[_Finding]:
    findings = []
    for one in found.split[:_MOST]:
        groups = [_faces(found, _members(found, number), found.names[number]) for number in one.identities]
        findings.append(_Finding(f"{one.suspicion:.2f}", groups))
    return findings


def _pairs(found: Findings, pairs: NDArray[np.int64], distances: NDArray[np.float32] | None) -> list[_Finding]:
    findings = []
    for place, both in enumerate(pairs[:_MOST].tolist()):
        groups = [
            _faces(found, [face], found.files[face] + (" (to leave out)" if found.excluded[face] else ""), "one")
            for face in both
        ]
        findings.append(_Finding("" if distances is None else f"{distances[place]:.3f}", groups))
    return findings


def _members(found: Findings, number: int, but: int = -1) -> list[int]:
    """A few faces of an identity that are probably right: those nearest to the identity's others."""
    start, stop = np.searchsorted(found.identity, [number, number + 1])
    faces = np.arange(start, stop)
    faces = faces[faces != but]
    chosen: list[int] = faces[np.argsort(found.near.own[faces], kind="stable")[:_EXEMPLARS]].tolist()
    return chosen


def _faces(found: Findings, faces: Sequence[int], line: str, kind: str = "") -> Faces:
    shown = []
    for face in faces:
        try:
            picture = thumbnail(found.images.read(face), 112 if kind == "suspect" else 72)
        except (BadFace, OSError):
            picture = ""
        shown.append((found.files[face], picture))
    return Faces(line, shown, kind)
