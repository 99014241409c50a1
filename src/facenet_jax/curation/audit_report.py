"""A dataset -> what is probably wrong with it, in files: a table, everything for machines, and what to leave out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.curation.audit import (
    Merged,
    Nearness,
    Split,
    merged_identities,
    nearness,
    pairs_within,
    split_identities,
    wrong_labels,
)
from facenet_jax.datasets.open import open_dataset
from facenet_jax.datasets.prepared import PreparedSource
from facenet_jax.datasets.source import StoredFaces
from facenet_jax.embedders.base import Embedder, EmbeddingTable
from facenet_jax.embedders.engine import Images, embed_images
from facenet_jax.embedders.labelled_images import only, stored_images
from facenet_jax.images.crop import Crop
from facenet_jax.images.cut import FaceCutter
from facenet_jax.images.decode import BadFace
from facenet_jax.images.digests import content_digest
from facenet_jax.prepare.duplicates import find_copies
from facenet_jax.prepare.job import write_whole
from facenet_jax.runtime.cores import usable_cores
from facenet_jax.runtime.progress import Progress, Tally

FINDINGS_FILE, JSON_FILE, EXCLUDE_FILE, PAGE_FILE = "findings.csv", "audit.json", "exclude.txt", "audit.html"
OWN_FILES = (FINDINGS_FILE, JSON_FILE, EXCLUDE_FILE, PAGE_FILE)
_COLUMNS = ("kind", "suspicion", "distance", "face", "identity", "other_face", "other_identity", "excluded")
# Chosen on CelebA with SFace (benchmarks/audit.py): from here on hardly a right label is among them.
EXCLUDE_FROM = 0.55
# More faces that seem wrong than in the worst public sets speak against the embedder.
_BELIEVABLE = 0.25
# Two faces this much nearer than those of one identity typically are: nearly the same picture.
_NEAR_COPY = 0.1


@dataclass(frozen=True, eq=False)
class Audited:
    """What an audit found. Faces are numbers from 0, in the order of `files`.

    Attributes:
      dataset, embedder: their names.
      images: the dataset's.
      files: of each face that could be judged, its place in the dataset.
      names: of identities.
      identity: int64 [n], ascending.
      near: how near the faces lie to their own and other identities.
      wrong: int64, probably wrong labels, the surest first.
      merged: identities of probably two people.
      split: pairs of identities of probably one person.
      copies: int64 [copies, 2], faces with the bytes of an earlier one, and that.
      near_copies: int64 [pairs, 2], faces with other bytes that are nearly the same; distances: float32 [pairs].
      excluded: bool [n], what the list to leave out holds.
      bad: (file, reason) of each that could not be judged.
    """

    dataset: str
    embedder: str
    images: Images
    files: Sequence[str]
    names: Sequence[str]
    identity: NDArray[np.int64]
    near: Nearness
    wrong: NDArray[np.int64]
    merged: list[Merged]
    split: list[Split]
    copies: NDArray[np.int64]
    near_copies: NDArray[np.int64]
    distances: NDArray[np.float32]
    excluded: NDArray[np.bool_]
    bad: tuple[tuple[str, str], ...]

    def name(self, face: int) -> str:
        """Of the identity that a face is labelled with."""
        return self.names[int(self.identity[face])]


def audit(
    dataset: Path, embedder: Embedder | EmbeddingTable, crop: Crop, keep: Path | None, progress: Progress
) -> Audited:
    """Audits a folder `<identity>/<image>` or a prepared dataset.

    Args:
      dataset: where it is.
      embedder: what tells people apart.
      crop: how faces are cut first.
      keep: a folder where embeddings are kept as they are made.
      progress: where to say how far it is.

    Raises:
      InputError: as of the dataset and the embedder, or nothing can be judged.
    """
    source = open_dataset(dataset, singles=True)
    files = tuple(source.places())
    images = stored_images(source, files)
    embedded = embed_images(embedder, images, FaceCutter(crop), keep, progress)
    embedded.check_any()
    kept, points = embedded.photo, embedded.points
    identity = source.index.identity_of(kept)
    progress.line("comparing")
    near = nearness(points, identity)
    wrong = wrong_labels(near, identity)
    copies = _copies(source, images, kept, identity, progress)
    pairs, distances = pairs_within(points, _NEAR_COPY * near.typical_own)
    # Faces with the same bytes are near of course.
    file = first_of_file(len(kept), copies)
    others = file[pairs[:, 0]] != file[pairs[:, 1]]
    return Audited(
        str(dataset),
        embedder.name,
        only(images, kept.tolist()),
        [files[i] for i in kept.tolist()],
        source.index.names,
        identity,
        near,
        wrong,
        merged_identities(points, identity, near),
        split_identities(points, identity, near),
        copies,
        pairs[others],
        distances[others],
        to_leave_out(wrong, copies, near.suspicion),
        embedded.rejected,
    )


def _copies(
    source: StoredFaces,
    images: Images,
    kept: NDArray[np.int64],
    identity: NDArray[np.int64],
    progress: Progress,
) -> NDArray[np.int64]:
    """Pairs (face, earlier face) with the same bytes, int64 [copies, 2]."""
    if isinstance(source, PreparedSource):
        contents = source.contents[kept]
    else:
        contents = np.empty((len(kept), 16), np.uint8)
        tally = Tally(progress, "reading", len(kept))

        def digest(face: int) -> bytes:
            try:
                return content_digest(images.read(int(kept[face])))
            except BadFace:  # gone since it was embedded: it matches nothing
                return content_digest(b"unreadable %d" % face)

        with ThreadPoolExecutor(usable_cores()) as pool:
            for face, found in enumerate(pool.map(digest, range(len(kept)))):
                contents[face] = np.frombuffer(found, np.uint8)
                tally.update(face + 1)
    offsets = np.searchsorted(identity, np.arange(int(identity[-1]) + 2))
    copies = find_copies(contents, offsets)
    return np.stack([copies.records, copies.originals], axis=1)


def first_of_file(faces: int, copies: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each face the first that has its bytes, itself if there is none before: int64 [faces].

    Args:
      faces: how many there are.
      copies: int64 [copies, 2], a face and an earlier one with its bytes, each face once.
    """
    first = np.arange(faces)
    first[copies[:, 0]] = copies[:, 1]
    while not np.array_equal(further := first[first], first):
        first = further
    return first


def to_leave_out(
    wrong: NDArray[np.int64], copies: NDArray[np.int64], suspicion: NDArray[np.floating[Any]]
) -> NDArray[np.bool_]:
    """Of wrong labels the sure ones; of all faces with the same bytes all but the least suspicious: bool [faces].

    Args:
      wrong: faces whose labels are probably wrong.
      copies: as `first_of_file` takes them.
      suspicion: [faces], NaN where nothing can be said.
    """
    out = np.zeros(len(suspicion), bool)
    out[wrong[suspicion[wrong] >= EXCLUDE_FROM]] = True
    first = first_of_file(len(suspicion), copies)
    order = np.lexsort((np.nan_to_num(suspicion, nan=np.inf), first))
    order = order[~out[order]]
    out[order[1:][first[order[1:]] == first[order[:-1]]]] = True
    return out


def write_findings(found: Audited, out: Path) -> None:
    """Writes all but the page: the table, the JSON file, and the list that `prepare` and `train` take."""
    document = to_json(found)
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    table.writerows(_rows(document))
    write_whole(out / FINDINGS_FILE, text.getvalue())
    write_whole(out / JSON_FILE, json.dumps(document, indent=1, allow_nan=False) + "\n")
    # A line cannot hold a name with a line break in it.
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


def to_json(found: Audited) -> dict[str, Any]:
    """Everything, as plain values."""
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


def caution(found: Audited) -> str:
    """What a reader should know before believing an audit; empty where there is nothing."""
    share = len(found.wrong) / max(int(np.sum(~np.isnan(found.near.own))), 1)
    if share <= _BELIEVABLE:
        return ""
    return (
        f"{share:.0%} of the faces are nearer to another identity: either labels are that bad or, more likely, this "
        "embedder does not tell these faces apart; leave nothing out before another one says the same."
    )


def format_audited(found: Audited) -> str:
    """A table for the screen."""
    across = int(np.sum(found.identity[found.copies[:, 0]] != found.identity[found.copies[:, 1]]))
    singles = int(np.isnan(found.near.own).sum())
    sure = int(np.sum(found.near.suspicion[found.wrong] >= EXCLUDE_FROM))
    rows = [
        ("audited", f"{len(found.files):,} faces of {len(np.unique(found.identity)):,} identities by {found.embedder}"),
        ("", f"typical distance from the own identity {found.near.typical_own:.3f}, "
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
