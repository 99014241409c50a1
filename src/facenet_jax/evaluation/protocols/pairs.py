"""Protocol on `.bin` verification files (lfw, cfp_fp, agedb_30, ...): accuracy over ten folds of pairs."""

from __future__ import annotations

import argparse
import hashlib
import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.engine import Images
from facenet_jax.errors import InputError
from facenet_jax.evaluation.protocols.common import add_fars, check_fars_asked
from facenet_jax.evaluation.protocols.listed import PairList, check_folds, listed_distances, over_folds, read_file
from facenet_jax.evaluation.request import Outcome, Request

check = check_fars_asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --data and --far."""
    parser.add_argument("--data", type=Path, required=True, help="the .bin file")
    add_fars(parser)


def run(request: Request, options: argparse.Namespace) -> Outcome:
    """Accuracy over ten folds."""
    file = options.data
    listed, files = read_bin(file)
    check_folds(listed, file)
    digest = hashlib.blake2b(b"".join(hashlib.blake2b(f).digest() for f in files), digest_size=16).hexdigest()
    images = Images(listed.keys, lambda number: files[number], digest)
    compared = listed_distances(request, listed, images)
    return over_folds("pairs", request, (file, file), listed, compared, options.fars, file.stem)


def read_bin(path: Path) -> tuple[PairList, list[bytes]]:
    """Reads a `.bin` verification file (lfw, cfp_fp, agedb_30, ...): pairs of images, and whether each is a same pair.

    The files are Python pickles. They are read by a reader that knows bytes, lists, tuples, booleans and numbers and
    calls nothing. They have no names of people; images that are equal, or linked by pairs of the same person, are taken
    to show one person. The pairs are divided into ten folds in their order, as is usual for these files.

    Returns:
      The pairs, with the images' numbers as keys, and the images.

    Raises:
      InputError: it is not such a file, or needs more than bytes and lists.
    """
    try:
        data = read_file(path)
        # Python allocates a list as long as the largest memo number, however few entries it has.
        for opcode, number, _ in pickletools.genops(data):
            if opcode.name in ("PUT", "LONG_BINPUT") and int(number or 0) > len(data):
                raise ValueError("more is kept than the file has bytes")
        content = _Unpickler(io.BytesIO(data), path).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise InputError(f"{path} is not a readable pickle ({type(error).__name__}); restore the file.") from error
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
    # The folds of scikit-learn's KFold, which the published figures use.
    folds = min(10, len(answers))
    sizes = np.full(folds, len(answers) // folds)
    sizes[: len(answers) % folds] += 1
    keys = tuple(f"{number}" for number in range(len(images)))
    return PairList(keys, pairs, same, np.repeat(np.arange(folds), sizes), people), list(images)


class _Unpickler(pickle.Unpickler):
    """Reads bytes, lists and numbers; refuses a pickle that would call or look up anything."""

    def __init__(self, file: io.BytesIO, path: Path) -> None:
        super().__init__(file, encoding="bytes")
        self._path = path

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuses to look up a name."""
        raise InputError(
            f"{self._path} asks Python for {module}.{name}; a .bin file needs nothing but bytes and lists, so it was "
            "not opened: save it again as (list of bytes, list of bool)."
        )

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuses to look up an object outside of the file."""
        raise InputError(f"{self._path} refers to objects outside of it; it was not opened.")


def _linked(images: list[bytes], same: NDArray[np.int64]) -> list[int]:
    """The number of the person on each image: equal images, and those of a same pair, show one person."""
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
