"""Makes the report's galleries of the user's own images: a square of distances, wrong pairs, clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from PIL import Image

from facenet_jax.datasets.prepared import is_prepared
from facenet_jax.embedders.labelled_images import LabelledImages, open_labelled
from facenet_jax.errors import InputError
from facenet_jax.images.crop import Crop
from facenet_jax.images.cut import FaceCutter
from facenet_jax.images.decode import BadFace
from facenet_jax.report.collect import PAIR_PROTOCOLS, Measured, finest, results
from facenet_jax.report.page import Faces, thumbnail

# Pairs of each kind, and faces of each cluster, that are shown: a longer page is not read.
_MOST_PAIRS, _MOST_FACES = 40, 24


@dataclass(frozen=True)
class Square:
    """Squared distances between a few faces.

    Attributes:
      heading: whose they are.
      names: of the faces.
      images: of the faces (data URIs); an empty one shows the name.
      people: the number of the person on each; pairs of one person are tinted.
      distances: [faces, faces].
      threshold: pairs on the wrong side of it are framed.
    """

    heading: str
    names: Sequence[str]
    images: Sequence[str]
    people: Sequence[int]
    distances: Sequence[Sequence[float]]
    threshold: float | None

    @property
    def cells(self) -> list[list[tuple[str, str, str]]]:
        """For each pair its classes in the style sheet (`same`, `wrong`), its names, and its distance."""
        rows = []
        for row, distances in enumerate(self.distances):
            cells = []
            for column, distance in enumerate(distances):
                same = self.people[row] == self.people[column]
                wrong = self.threshold is not None and (distance <= self.threshold) != same
                kinds = " ".join(kind for kind, yes in (("same", same), ("wrong", wrong)) if yes)
                pair = f"{self.names[row]} / {self.names[column]}"
                cells.append((kinds, pair, "" if row == column else f"{distance:.2f}"))
            rows.append(cells)
        return rows


def squares(embedders: Sequence[Measured], images: bool) -> list[Square]:
    """Figure 1: squared distances between pictures of a few people, in different poses and light."""
    found = []
    for one in embedders:
        for protocol in ("photos", "holdout"):
            result = one.result(protocol)
            few = (result or {}).get("few_faces")
            if not few or not few["keys"]:
                continue
            crop = one.documents[protocol][0]["crop"]
            shown = [_thumbnail(one.roots(protocol), key, crop) if images else "" for key in few["keys"]]
            rate = finest(result)
            threshold = None if rate is None else rate["threshold"]
            said = ""
            if rate and threshold is not None:
                said = f", threshold at a squared distance of {threshold:.3f} (FAR {rate['far']:g})"
            heading = f"{one.name}, {protocol}{said}"
            found.append(Square(heading, few["keys"], shown, few["people"], few["distances"], threshold))
            break
    return found


def wrong_pairs(embedders: Sequence[Measured], images: bool) -> list[tuple[str, list[Faces]]]:
    """Figure 6: false accepts, then false rejects, of each embedder, each under a heading."""
    galleries = []
    for one, protocol, result in results(embedders, "holdout", *PAIR_PROTOCOLS):
        if "wrong" not in result:
            continue
        for kind, words in (("false_accepts", "False accepts"), ("false_rejects", "False rejects")):
            groups = [
                Faces(
                    f"{first} / {second}: squared distance {distance:.3f}",
                    _pictures(one, protocol, (first, second), images),
                )
                for first, second, distance in result["wrong"][kind][:_MOST_PAIRS]
            ]
            if groups:
                galleries.append((f"{words}: {one.name}, {protocol}", groups))
    return galleries


def largest_clusters(embedders: Sequence[Measured], images: bool) -> list[tuple[str, list[Faces]]]:
    """Figure 7: the largest clusters of each embedder, under its name."""
    galleries = []
    for one, _, result in results(embedders, "cluster") if images else ():
        groups = []
        for keys in result["clusters_shown"]:
            people = len({key.split("/")[0] for key in keys})
            line = f"{len(keys)} faces shown of {people} identities"
            groups.append(Faces(line, _pictures(one, "cluster", keys[:_MOST_FACES], images)))
        galleries.append((one.name, groups))
    return galleries


def _pictures(one: Measured, protocol: str, keys: Sequence[str], images: bool) -> list[tuple[str, str]]:
    """The images that can be read, as (key, data URI)."""
    if not images:
        return []
    roots, crop = one.roots(protocol), one.documents[protocol][0]["crop"]
    return [(key, shown) for key in keys if (shown := _thumbnail(roots, key, crop))]


def _thumbnail(roots: Sequence[Path], key: str, crop: str) -> str:
    """A small image as a data URI, cut as it was judged; empty if it cannot be read here."""
    return next((shown for root in roots if (shown := thumbnail(_cut(_image(root, key), crop)))), "")


def _cut(image: Path | bytes, crop: str) -> Path | bytes | Image.Image:
    """The face of an image as the embedder saw it; the image itself if it was not cut, or cannot be cut here."""
    cutter = None if crop == "none" else _cutter(crop)
    if cutter is None:
        return image
    try:
        (face,) = cutter(image.read_bytes() if isinstance(image, Path) else image, (96, 96))
        return Image.fromarray(face.pixels)
    except (BadFace, OSError):
        return image


@lru_cache
def _cutter(crop: str) -> FaceCutter | None:
    """The cutter of a crop; None if the extra that finds faces is not installed, or the crop is of a newer version."""
    try:
        cutter = FaceCutter(cast(Crop, crop))
        if cutter.detects:
            _ = cutter.detector
        return cutter
    except InputError:
        return None


def _image(root: Path, key: str) -> Path | bytes:
    """The file of an image, or its bytes in a prepared dataset; empty if they cannot be read."""
    if not is_prepared(root):
        return root / key
    try:
        folder, numbers = _faces_of(root)
        return folder.images.read(numbers[key]) if key in numbers else b""
    except (InputError, BadFace):
        return b""


@lru_cache(maxsize=4)
def _faces_of(root: Path) -> tuple[LabelledImages, dict[str, int]]:
    """The faces of a prepared dataset, and the place of each by its key."""
    folder = open_labelled(root)
    return folder, {key: number for number, key in enumerate(folder.images.keys)}
