"""Finds the people (by name) and images (by bytes and by appearance) that two datasets share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.names import comparable
from facenet_jax.datasets.open import open_dataset
from facenet_jax.datasets.prepared import PreparedSource
from facenet_jax.datasets.source import StoredFaces
from facenet_jax.errors import InputError
from facenet_jax.images.decode import BadFace, Reason, decode_whole
from facenet_jax.images.digests import LOOK_DISTANCE, LOOK_SIDE, content_digest, is_blank, look_digest, look_distance
from facenet_jax.runtime.cores import usable_cores
from facenet_jax.runtime.progress import Progress, Tally

_BLOCK = 2**20  # records looked at together
_CANDIDATES = 2**22  # pairs compared together
_SHOWN = 10


class Pairs:
    """Pairs of a record of one dataset and a record of another.

    Attributes:
      a, b: int64 [pairs].
      distance: int64 [pairs], in how many of 256 bits their looks differ; 0 where their bytes are the same.
    """

    def __init__(self, a: NDArray[np.int64], b: NDArray[np.int64], distance: NDArray[np.int64]) -> None:
        order = np.lexsort((b, a))
        self.a, self.b, self.distance = a[order], b[order], distance[order]

    def __len__(self) -> int:
        return len(self.a)


def same_contents(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Pairs:
    """All pairs of records with the same bytes.

    Args:
      a: uint8 [records of A, 16], digests; may be memory-mapped and is read once.
      b: uint8 [records of B, 16], of the smaller dataset.
    """
    words = np.ascontiguousarray(b).view("<u8")
    order = np.argsort(words[:, 0], kind="stable")
    keys = words[order, 0]
    found_a, found_b = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for first in range(0, len(a), _BLOCK):
        block = np.ascontiguousarray(a[first : first + _BLOCK]).view("<u8")
        for left, right in _candidates(block[:, 0], keys):
            right = order[right]
            same = block[left, 1] == words[right, 1]
            found_a.append(first + left[same])
            found_b.append(right[same])
    pairs = np.concatenate(found_a), np.concatenate(found_b)
    return Pairs(*pairs, np.zeros(len(pairs[0]), np.int64))


def alike(a: NDArray[np.uint16], b: NDArray[np.uint16]) -> Pairs:
    """All pairs of records whose looks differ in at most `LOOK_DISTANCE` of 256 bits, blank pictures left out.

    None is missed: 15 differing bits leave at least one of 16 words equal, so only pairs with a common word are
    compared.

    Args:
      a: uint16 [records of A, 16]; may be memory-mapped and is read once.
      b: uint16 [records of B, 16], of the smaller dataset.
    """
    b = np.ascontiguousarray(b)
    kept = np.flatnonzero(~is_blank(b))
    orders = [kept[np.argsort(b[kept, word], kind="stable")] for word in range(LOOK_SIDE)]
    keys = [b[order, word] for word, order in enumerate(orders)]
    present = np.zeros((LOOK_SIDE, 2**16), bool)
    for word in range(LOOK_SIDE):
        present[word, keys[word]] = True
    found_a, found_b, distances = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for first in range(0, len(a), _BLOCK):
        block = np.ascontiguousarray(a[first : first + _BLOCK])
        blank = is_blank(block)
        for word in range(LOOK_SIDE):
            chosen = np.flatnonzero(present[word, block[:, word]] & ~blank)
            for left, right in _candidates(block[chosen, word], keys[word]):
                left, right = chosen[left], orders[word][right]
                distance = look_distance(block[left], b[right])
                near = distance <= LOOK_DISTANCE
                left, right, distance = left[near], right[near], distance[near]
                # A pair with several common words is counted at the first.
                new = ~(block[left, :word] == b[right, :word]).any(1)
                found_a.append(first + left[new])
                found_b.append(right[new])
                distances.append(distance[new])
    return Pairs(np.concatenate(found_a), np.concatenate(found_b), np.concatenate(distances))


def _candidates(values: NDArray[Any], keys: NDArray[Any]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs (place in values, place in sorted keys) of equal ones, in blocks."""
    low, high = np.searchsorted(keys, values, "left"), np.searchsorted(keys, values, "right")
    some = np.flatnonzero(high > low)
    low, counts = low[some], (high - low)[some]
    until = np.cumsum(counts)
    start = 0
    while start < len(some):
        before = int(until[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(until, before + _CANDIDATES, "right")))
        number = counts[start:stop]
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        yield np.repeat(some[start:stop], number), np.repeat(low[start:stop], number) + within
        start = stop


@dataclass(frozen=True)
class Dataset:
    """One of the datasets that are compared.

    Attributes:
      path: where it is.
      crop: how its pictures were cut; `none` for those of a folder, as they are.
      names: of identities.
      offsets: int64 [identities + 1], the records of each.
      contents: uint8 [records, 16].
      looks: uint16 [records, 16].
      place: where a record comes from.
      unreadable: the records that cannot be decoded, ascending, and why; they match nothing. A prepared dataset has
        none.
    """

    path: str
    crop: str
    names: Sequence[str]
    offsets: NDArray[np.int64]
    contents: NDArray[np.uint8]
    looks: NDArray[np.uint16]
    place: Callable[[int], str]
    unreadable: Sequence[tuple[int, Reason]] = ()


def open_compared(path: Path, progress: Progress | None = None) -> Dataset:
    """Opens a prepared dataset, which has digests, or anything that can be prepared, whose images are then read.

    Raises:
      InputError: it is neither, or damaged, or none of its images can be decoded.
    """
    source = open_dataset(path, listed=True)
    index, faces = source.index, source.index.records
    if isinstance(source, PreparedSource):
        digests = source.contents, source.looks
        return Dataset(str(path), source.card.crop, index.names, index.offsets, *digests, source.place)
    contents, looks, unreadable = _read_all(source, Tally(progress or Progress(), f"reading {path}", faces))
    if len(unreadable) == faces:
        raise InputError(f"None of the {faces:,} images of {path} can be decoded: check them.")
    return Dataset(str(path), "none", index.names, index.offsets, contents, looks, source.place, unreadable)


def _read_all(
    source: StoredFaces, tally: Tally
) -> tuple[NDArray[np.uint8], NDArray[np.uint16], list[tuple[int, Reason]]]:
    """(contents, looks, unreadable) of a Dataset."""
    faces = source.index.records
    contents, looks = np.zeros((faces, 16), np.uint8), np.zeros((faces, LOOK_SIDE), np.uint16)

    def read(record: int) -> Reason | None:
        # An image that cannot be read matches nothing: it has a digest of its own, and looks blank.
        contents[record] = np.frombuffer(content_digest(b"unreadable %d" % record), np.uint8)
        try:
            data = source.read(record)
            contents[record] = np.frombuffer(content_digest(data), np.uint8)
            looks[record] = look_digest(decode_whole(data))
        except BadFace as bad:
            return bad.reason
        return None

    unreadable = []
    with ThreadPoolExecutor(usable_cores()) as pool:  # decoding lets other threads run
        for record, reason in enumerate(pool.map(read, range(faces))):
            if reason is not None:
                unreadable.append((record, reason))
            tally.update(record + 1)
    return contents, looks, unreadable


@dataclass(frozen=True)
class Overlap:
    """The people and images that two datasets share.

    Attributes:
      a, b: the datasets.
      names: names of identities in both, in A's order.
      same: pairs of images with the same bytes.
      alike: pairs of others that look the same.
    """

    a: Dataset
    b: Dataset
    names: list[str]
    same: Pairs
    alike: Pairs

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values, for a file."""
        return {
            "a": _side(self.a),
            "b": _side(self.b),
            "look_distance": LOOK_DISTANCE,
            "names": self.names,
            "same_bytes": [self._pair(self.same, row) for row in range(len(self.same))],
            "look_the_same": [self._pair(self.alike, row) for row in range(len(self.alike))],
        }

    def _pair(self, pairs: Pairs, row: int) -> dict[str, Any]:
        a, b = int(pairs.a[row]), int(pairs.b[row])
        of = [
            side.names[int(np.searchsorted(side.offsets, record, side="right")) - 1]
            for side, record in ((self.a, a), (self.b, b))
        ]
        pair = {"a": self.a.place(a), "b": self.b.place(b), "identity_a": of[0], "identity_b": of[1]}
        return pair | ({"distance": int(pairs.distance[row])} if pairs is self.alike else {})


def _side(dataset: Dataset) -> dict[str, Any]:
    unreadable = [{"file": dataset.place(record), "reason": reason.words} for record, reason in dataset.unreadable]
    return {
        "path": dataset.path,
        "identities": len(dataset.names),
        "faces": len(dataset.contents),
        "unreadable": unreadable,
    }


def find_overlap(a: Dataset, b: Dataset) -> Overlap:
    """Finds what two datasets share; the smaller one is held in memory, the larger one read once."""
    known = set(map(comparable, b.names))
    names = [name for name in a.names if comparable(name) in known]
    if len(a.contents) >= len(b.contents):
        same, near = same_contents(a.contents, b.contents), alike(a.looks, b.looks)
    else:
        same, near = (
            Pairs(found.b, found.a, found.distance)
            for found in (same_contents(b.contents, a.contents), alike(b.looks, a.looks))
        )
    return Overlap(a, b, names, same, without(near, same))


def without(pairs: Pairs, others: Pairs) -> Pairs:
    """The pairs that are not among others."""
    known = set(zip(others.a.tolist(), others.b.tolist(), strict=True))
    new = np.array([pair not in known for pair in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)], bool)
    return Pairs(pairs.a[new], pairs.b[new], pairs.distance[new])


def format_overlap(overlap: Overlap) -> str:
    """A table for the screen, and the first of each kind."""
    sides = overlap.a, overlap.b
    lines = [f"{'':<16}{'A':>12}{'B':>12}  both"]
    identities = [f"{len(side.names):>12,}" for side in sides]
    lines.append(f"{'identities':<16}{''.join(identities)}  {len(overlap.names):,} by name")
    faces = [f"{len(side.contents):>12,}" for side in sides]
    lines.append(f"{'faces':<16}{''.join(faces)}")
    unreadable = [f"{len(side.unreadable):>12,}" for side in sides]
    lines.append(f"{'unreadable':<16}{''.join(unreadable)}")
    for name, pairs, words in (
        ("same bytes", overlap.same, "pairs"),
        ("look the same", overlap.alike, f"more pairs within {LOOK_DISTANCE} of 256 bits"),
    ):
        of = [f"{len(np.unique(records)):>12,}" for records in (pairs.a, pairs.b)]
        lines.append(f"{name:<16}{''.join(of)}  {len(pairs):,} {words}")
    if overlap.a.crop != overlap.b.crop:
        lines.append(
            f"note: A has crop {overlap.a.crop} and B {overlap.b.crop}, and looks are those of pictures after they are "
            "cut; prepare both alike to compare them"
        )
    for letter, side in zip("AB", sides, strict=True):
        first = [f"{side.place(record)} ({reason.words})" for record, reason in side.unreadable[:_SHOWN]]
        lines += _shown(f"unreadable in {letter}", first, len(side.unreadable))
    lines += _shown("name", overlap.names)
    for name, pairs in (("same bytes", overlap.same), ("look the same", overlap.alike)):
        shown = [overlap._pair(pairs, row) for row in range(min(len(pairs), _SHOWN))]
        lines += _shown(name, [f"{pair['a']} = {pair['b']}" for pair in shown], len(pairs))
    return "\n".join(lines)


def _shown(kind: str, words: list[str], number: int | None = None) -> list[str]:
    more = (len(words) if number is None else number) - len(words[:_SHOWN])
    lines = [f"{kind}: {word!r}"[: 2 + len(kind) + 200] for word in words[:_SHOWN]]
    return lines + ([f"{kind}: {more:,} more"] if more else [])
