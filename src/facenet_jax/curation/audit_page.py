"""What an audit found -> a page to look through: each suspect beside what it is compared with."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facenet_jax.curation.audit_report import EXCLUDE_FILE, FINDINGS_FILE, Audited, caution
from facenet_jax.images.decode import BadFace
from facenet_jax.report.page import note, page, section, table, thumbnail

# Of each kind so many are shown, the surest: a page of more is no longer looked through.
_MOST = 200
_EXEMPLARS = 4
_PART = 10
_STYLE = """
.finding { display: flex; flex-wrap: wrap; gap: .75rem 1.5rem; align-items: flex-start; padding: .75rem 0;
  border-bottom: 1px solid #eee; }
.faces { min-width: 0; } .faces p { margin: 0 0 .25rem; font-size: .85rem; overflow-wrap: anywhere; }
.faces img { width: 72px; height: 72px; object-fit: cover; margin: 0 2px 2px 0; border-radius: 4px; }
.suspect img { width: 110px; height: 110px; outline: 3px solid #D55E00; outline-offset: -3px; }
.score { flex: 0 0 4.5rem; font-size: .85rem; color: #666; }
.score b { display: block; font-size: 1.3rem; color: #333; }
.out { display: inline-block; background: #D55E00; color: #fff; border-radius: 3px; padding: 0 .35rem; }
"""


def build_page(found: Audited) -> str:
    """The whole page; it holds faces, as data URIs."""
    sections = [
        section(
            "What was found",
            table(("", "how many", "to leave out"), _counts(found)),
            note(
                f"By {found.embedder}: a typical face lies {found.near.typical_own:.3f} (squared distance) from its "
                f"own identity and {found.near.typical_other:.3f} from the nearest other. The number beside a face is "
                "how much nearer the other identity is, against how much nearer the own one typically is. "
                f"{EXCLUDE_FILE} holds the faces marked as left out, for `facenet-jax prepare --exclude` and "
                f"--config.data.exclude: take out of it what you find right. Of each kind at most {_MOST} are shown; "
                f"{FINDINGS_FILE} holds all."
            ),
            note(words) if (words := caution(found)) else "",
        ),
        section("Probably wrong labels", *_wrong(found)),
        section("Probably two people under one name", *_merged(found)),
        section("Probably one person under two names", *_split(found)),
        section("The same file twice", *_pairs(found, found.copies, None)),
        section("Nearly the same picture", *_pairs(found, found.near_copies, found.distances)),
    ]
    return page(f"Audit of {found.dataset}", [one for one in sections if one], _STYLE)


def _counts(found: Audited) -> list[list[str]]:
    copied = np.zeros(len(found.files), bool)
    copied[found.copies.ravel()] = True
    labels = int(found.excluded[found.wrong].sum())
    rows = [
        ("faces", len(found.files), int(found.excluded.sum())),
        ("probably wrong labels", len(found.wrong), labels),
        ("identities of probably two people", len(found.merged), None),
        ("pairs of identities of probably one person", len(found.split), None),
        ("copies of a file", len(found.copies), int(found.excluded[copied].sum())),
        ("pairs of nearly the same pictures", len(found.near_copies), None),
    ]
    return [[name, f"{count:,}", "" if out is None else f"{out:,}"] for name, count, out in rows]


def _wrong(found: Audited) -> list[str]:
    near, suspicion = found.near, found.near.suspicion
    cards = []
    for face in found.wrong[:_MOST].tolist():
        own, other = int(found.identity[face]), int(near.nearest[face])
        cards.append(
            _card(
                f"{suspicion[face]:.2f}",
                bool(found.excluded[face]),
                _faces(found, [face], found.files[face], "suspect"),
                _faces(found, _members(found, own, face), f"its label: {found.names[own]}, {near.own[face]:.2f} away"),
                _faces(found, _members(found, other), f"nearer: {found.names[other]}, {near.other[face]:.2f} away"),
            )
        )
    return cards


def _merged(found: Audited) -> list[str]:
    return [
        _card(
            f"{one.suspicion:.2f}",
            None,
            _faces(found, one.parts[0][:_PART].tolist(), f"{found.names[one.identity]}: {len(one.parts[0]):,} faces"),
            _faces(found, one.parts[1][:_PART].tolist(), f"{one.distance:.2f} away: {len(one.parts[1]):,} faces"),
        )
        for one in found.merged[:_MOST]
    ]


def _split(found: Audited) -> list[str]:
    cards = []
    for one in found.split[:_MOST]:
        first, second = one.identities
        shown = [_faces(found, _members(found, number), found.names[number]) for number in (first, second)]
        cards.append(_card(f"{one.suspicion:.2f}", None, *shown))
    return cards


def _pairs(found: Audited, pairs: NDArray[np.int64], distances: NDArray[np.float32] | None) -> list[str]:
    cards = []
    for place, both in enumerate(pairs[:_MOST].tolist()):
        shown = [
            _faces(found, [face], found.files[face] + (" (to leave out)" if found.excluded[face] else ""))
            for face in both
        ]
        cards.append(_card("" if distances is None else f"{distances[place]:.3f}", None, *shown))
    return cards


def _members(found: Audited, number: int, but: int = -1) -> list[int]:
    """A few faces of an identity that are right by all appearances: those that lie nearest to their own."""
    start, stop = np.searchsorted(found.identity, [number, number + 1])
    faces = np.arange(start, stop)
    faces = faces[faces != but]
    chosen: list[int] = faces[np.argsort(found.near.own[faces], kind="stable")[:_EXEMPLARS]].tolist()
    return chosen


def _faces(found: Audited, faces: Sequence[int], line: str, kind: str = "") -> str:
    images = []
    for face in faces:
        try:
            shown = thumbnail(found.images.read(face), 112 if kind else 72)
        except (BadFace, OSError):
            shown = ""
        label = html.escape(found.files[face], quote=True)
        images.append(f'<img loading=lazy alt="{label}" title="{label}" src="{shown}">' if shown else label)
    return f'<div class="faces {kind}"><p>{html.escape(line)}</p>{"".join(images)}</div>'


def _card(score: str, out: bool | None, *groups: str) -> str:
    mark = "<span class=out>left out</span>" if out else ""
    return f"<div class=finding><div class=score><b>{score}</b>{mark}</div>{''.join(groups)}</div>"
