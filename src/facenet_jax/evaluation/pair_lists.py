"""Pairs as they are published: LFW's text files, the field's `.bin` files, YouTube Faces' splits."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError


@dataclass(frozen=True)
class PairList:
    """Pairs of images or of videos.

    Attributes:
      keys: the images (or videos) that occur, each once.
      pairs: int64 [n, 2], numbers into keys.
      same: bool [n].
      fold: int64 [n], from 0.
      people: the name of the person that each key shows.
    """

    keys: tuple[str, ...]
    pairs: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    people: tuple[str, ...]

    def without(self, names: set[str]) -> PairList:
        """Without the pairs that show one of these people; keys stay."""
        kept = np.array([not names & {self.people[i], self.people[j]} for i, j in self.pairs], bool)
        if not kept.any():
            raise InputError("Every pair shows somebody who was trained on; give pairs of other people.")
        _, fold = np.unique(self.fold[kept], return_inverse=True)
        return PairList(self.keys, self.pairs[kept], self.same[kept], fold.astype(np.int64), self.people)


def read_lfw_pairs(path: Path) -> PairList:
    """LFW's `pairs.txt` (ten folds), `pairsDevTrain.txt` or `pairsDevTest.txt` (one).

    The first line says `folds n` or `n`; in each fold n lines `name i j` of the same person are followed by n lines
    `name i name j` of different people. Parts are divided by tabs, or by blanks; empty lines count for nothing.

    Raises:
      InputError: naming the line that is wrong, or the number of lines that is not as the first line says.
    """
    lines = [(n, line.split()) for n, line in enumerate(_read_text(path).splitlines(), 1) if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty; give LFW's file of pairs.")
    head = lines[0][1]
    if len(head) not in (1, 2) or not all(part.isdigit() and int(part) > 0 for part in head):
        raise InputError(
            f"{path}, line {lines[0][0]}: {' '.join(head)!r} does not say how many folds and pairs there are; "
            "the first line of pairs.txt is `10 300`."
        )
    folds, per_fold = (1, int(head[0])) if len(head) == 1 else (int(head[0]), int(head[1]))
    if len(lines) - 1 != 2 * folds * per_fold:
        raise InputError(
            f"{path} has {len(lines) - 1:,} pairs, and its first line says {folds} x 2 x {per_fold} = "
            f"{2 * folds * per_fold:,}; restore the file."
        )
    numbers: dict[str, int] = {}
    people: list[str] = []
    pairs, same = [], []
    for place, (number, parts) in enumerate(lines[1:]):
        is_same = place % (2 * per_fold) < per_fold
        wanted = 3 if is_same else 4
        places = (1, 2) if is_same else (1, 3)
        if len(parts) != wanted or not all(parts[at].isdigit() for at in places):
            kind = "`name i j`, a pair of the same person" if is_same else "`name i name j`, of different people"
            raise InputError(f"{path}, line {number}: {' '.join(parts)!r} is not {kind}; restore the file.")
        if not is_same and parts[0] == parts[2]:
            raise InputError(f"{path}, line {number}: {parts[0]} stands twice in a pair of different people.")
        pair = []
        for name, at in ((parts[0], parts[1]), (parts[0] if is_same else parts[2], parts[-1])):
            key = f"{name}/{name}_{int(at):04d}.jpg"
            if key not in numbers:
                numbers[key] = len(numbers)
                people.append(name)
            pair.append(numbers[key])
        pairs.append(pair)
        same.append(is_same)
    fold = np.arange(len(pairs)) // (2 * per_fold)
    return PairList(tuple(numbers), np.array(pairs, np.int64), np.array(same), fold.astype(np.int64), tuple(people))


def read_bin(path: Path) -> tuple[PairList, list[bytes]]:
    """A `.bin` verification file (lfw, cfp_fp, agedb_30, ...): images two by two, and whether each two are the same.

    The files are Python pickles. They are read by a reader that knows bytes, lists, tuples, booleans and numbers and
    calls nothing. People have no names in them; images that are equal, or linked by pairs of the same person, are taken
    to show one person. The pairs are cut into ten folds as they stand, as the field does.

    Returns:
      The pairs, with the images' numbers as keys, and the images.

    Raises:
      InputError: it is no such file, or needs more than bytes and lists.
    """
    try:
        content = _Unpickler(io.BytesIO(_read_bytes(path)), path).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises what it happens to trip over
        raise InputError(f"{path} is no pickle that can be read ({type(error).__name__}); restore the file.") from error
    if not isinstance(content, tuple | list) or len(content) != 2:
        raise InputError(f"{path} does not hold two lists, images and answers; give a .bin verification file.")
    images, answers = content
    if not isinstance(images, list | tuple) or not all(type(image) is bytes for image in images):
        raise InputError(f"{path}: its images are not all bytes of image files; give a .bin verification file.")
    if not isinstance(answers, list | tuple) or not all(type(a) is bool or a in (0, 1) for a in answers):
        raise InputError(f"{path}: its answers are not all true or false; give a .bin verification file.")
    if not answers or len(images) != 2 * len(answers):
        raise InputError(
            f"{path} holds {len(images):,} images and {len(answers):,} answers; two images for each answer are needed."
        )
    same = np.array([bool(answer) for answer in answers])
    pairs = np.arange(len(images), dtype=np.int64).reshape(-1, 2)
    people = tuple(f"person {one}" for one in _linked(list(images), pairs[same]))
    # As scikit-learn's KFold cuts them, whose folds the published figures are of.
    folds = min(10, len(answers))
    sizes = np.full(folds, len(answers) // folds)
    sizes[: len(answers) % folds] += 1
    keys = tuple(f"{number}" for number in range(len(images)))
    return PairList(keys, pairs, same, np.repeat(np.arange(folds), sizes), people), list(images)


def read_ytf_splits(path: Path) -> PairList:
    """YouTube Faces' `splits.txt`: lines `split, first video, second video, ..., is same`, videos as `Name/number`.

    A first line of words names the columns; without one, split and videos come first and the answer last.

    Raises:
      InputError: naming the line that is wrong.
    """
    lines = [(n, [part.strip() for part in line.split(",")]) for n, line in enumerate(_read_text(path).splitlines(), 1)]
    lines = [(n, parts) for n, parts in lines if any(parts)]
    answer = -1
    if lines and not lines[0][1][0].isdigit():
        heads = [head.lower() for head in lines[0][1]]
        answer = next((at for at, head in enumerate(heads) if "same" in head), -1)
        lines = lines[1:]
    if not lines:
        raise InputError(f"{path} holds no pair of videos; give the official splits.txt.")
    numbers: dict[str, int] = {}
    pairs, same, fold = [], [], []
    for number, parts in lines:
        if len(parts) < 4 or not parts[0].isdigit() or parts[answer] not in ("0", "1"):
            raise InputError(
                f"{path}, line {number}: {', '.join(parts)!r} is not `split, first video, second video, is same`."
            )
        pairs.append([numbers.setdefault(video, len(numbers)) for video in parts[1:3]])
        same.append(parts[answer] == "1")
        fold.append(int(parts[0]))
    found = np.unique(fold)
    if found.tolist() != list(range(1, len(found) + 1)):
        raise InputError(
            f"{path}: its splits are {found.tolist()}, not numbered from 1 without a gap; restore the file."
        )
    people = tuple(video.split("/")[0] for video in numbers)
    return PairList(tuple(numbers), np.array(pairs, np.int64), np.array(same), np.array(fold) - 1, people)


class _Unpickler(pickle.Unpickler):
    """Reads what a pickle says of bytes, lists and numbers; whatever it would have called or looked up is refused."""

    def __init__(self, file: io.BytesIO, path: Path) -> None:
        super().__init__(file, encoding="bytes")
        self._path = path

    def find_class(self, module: str, name: str) -> NoReturn:
        """Nothing is looked up by name."""
        raise InputError(
            f"{self._path} asks Python for {module}.{name}; a .bin file needs nothing but bytes and lists, so it was "
            "not opened: save it again as (list of bytes, list of bool)."
        )

    def persistent_load(self, pid: Any) -> NoReturn:
        """Nothing is looked up elsewhere."""
        raise InputError(f"{self._path} refers to objects outside of it; it was not opened.")


def _linked(images: list[bytes], same: NDArray[np.int64]) -> list[int]:
    """The number of the person on each image: equal images, and those of a same pair, show one."""
    parent = list(range(len(images)))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    first: dict[bytes, int] = {}
    for number, image in enumerate(images):
        parent[root(number)] = root(first.setdefault(hashlib.blake2b(image, digest_size=16).digest(), number))
    for i, j in same:
        parent[root(int(i))] = root(int(j))
    return [root(number) for number in range(len(images))]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from error


def _read_text(path: Path) -> str:
    try:
        return _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text file; give the list of pairs.") from error
