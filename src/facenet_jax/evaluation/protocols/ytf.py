"""Protocol of section 5.7: YouTube Faces; the distance of two videos is the mean distance of their frames."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.names import comparable
from facenet_jax.datasets.walk import is_image, list_entries, stored_path
from facenet_jax.embedders.engine import EmbeddedFaces, concatenate, embed_images
from facenet_jax.embedders.labelled_images import listed_images
from facenet_jax.errors import InputError
from facenet_jax.evaluation.protocols.common import add_fars, check_fars_asked
from facenet_jax.evaluation.protocols.listed import (
    ListedDistances,
    PairList,
    check_folds,
    is_number,
    over_folds,
    without_known,
)
from facenet_jax.evaluation.request import AnyEmbedder, Outcome, Request
from facenet_jax.images.cut import FaceCutter
from facenet_jax.runtime.files import read_text
from facenet_jax.runtime.progress import Progress

check = check_fars_asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --data, --pairs, --frames and --far."""
    parser.add_argument("--data", type=Path, required=True, help="the folder of frames: Name/number/frame.jpg")
    parser.add_argument("--pairs", type=Path, required=True, help="the official splits.txt")
    parser.add_argument("--frames", type=int, default=100, help="with a face, of each video (default: 100)")
    add_fars(parser)


def run(request: Request, options: argparse.Namespace) -> Outcome:
    """Mean squared distance over all pairs of the first frames in which the detector finds a face."""
    data, frames = options.data, options.frames
    if frames < 1:
        raise InputError(f"--frames={frames} of each video show nothing; give at least 1 (the default is 100).")
    listed = without_known(request, check_folds(read_ytf_splits(options.pairs), options.pairs))
    per_video = [_frames(Path(stored_path(data, video))) for video in listed.keys]
    # A frame without a face is replaced by a later one of the same video.
    cutter = FaceCutter(request.crop, need_face=True)
    compared = []
    for embedder in request.embedders:
        means, found, embedded = _video_means(request, embedder, cutter, listed, per_video, data, frames)
        there = np.asarray(found[listed.pairs].all(axis=1))
        compared.append(ListedDistances(embedder, embedded, there, mean_distances(means, listed.pairs[there])))
    title = f"YouTube Faces, {frames} frames"
    return over_folds("ytf", request, (data, options.pairs), listed, compared, options.fars, title)


def read_ytf_splits(path: Path) -> PairList:
    """YouTube Faces' `splits.txt`: lines `split, first video, second video, ..., is same`, videos as `Name/number`.

    A first line of words names the columns; without one, split and videos come first and the answer last.

    Raises:
      InputError: a line is wrong, or the splits are not numbered from 1.
    """
    lines = [
        (n, [part.strip() for part in line.split(",")])
        for n, line in enumerate(comparable(read_text(path, str(path))).split("\n"), 1)
    ]
    lines = [(n, parts) for n, parts in lines if any(parts)]
    answer = -1
    if lines and not is_number(lines[0][1][0]):
        heads = [head.lower() for head in lines[0][1]]
        answer = next((at for at, head in enumerate(heads) if "same" in head), -1)
        lines = lines[1:]
    if not lines:
        raise InputError(f"{path} holds no pair of videos; give the official splits.txt.")
    numbers: dict[str, int] = {}
    pairs, same, fold = [], [], []
    for number, parts in lines:
        if len(parts) < max(4, answer + 1) or not is_number(parts[0]) or parts[answer] not in ("0", "1"):
            raise InputError(
                f"{path}, line {number}: {', '.join(parts)!r:.200} is not `split, first video, second video, is same`."
            )
        pairs.append([numbers.setdefault(video, len(numbers)) for video in parts[1:3]])
        same.append(parts[answer] == "1")
        fold.append(int(parts[0]))
    found = np.unique(fold)
    if found.tolist() != list(range(1, len(found) + 1)):
        raise InputError(
            f"{path}: its splits are {str(found.tolist())[:100]}, not numbered from 1 without a gap; restore the file."
        )
    people = tuple(video.split("/")[0] for video in numbers)
    return PairList(tuple(numbers), np.array(pairs, np.int64), np.array(same), np.array(fold) - 1, people)


def _video_means(
    request: Request,
    embedder: AnyEmbedder,
    cutter: FaceCutter,
    listed: PairList,
    per_video: Sequence[Sequence[Path]],
    data: Path,
    frames: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], EmbeddedFaces]:
    used = np.zeros(len(per_video), np.int64)  # frames looked at
    faces = np.zeros(len(per_video), np.int64)
    parts: list[EmbeddedFaces] = []
    owner: list[NDArray[np.int64]] = []
    while True:
        wanted = [
            (video, frame)
            for video, files in enumerate(per_video)
            for frame in range(used[video], min(len(files), used[video] + frames - faces[video]))
        ]
        if not wanted:
            break
        keys = [f"{listed.keys[video]}/{per_video[video][frame].name}" for video, frame in wanted]
        videos = np.array([video for video, _ in wanted])
        used += np.bincount(videos, minlength=len(used))
        images = listed_images(data, keys)
        one = embed_images(embedder, images, cutter, request.keep, Progress())
        parts.append(one)
        owner.append(videos[one.photo])
        faces += np.bincount(owner[-1], minlength=len(used))
    if not parts:
        raise InputError("The list of pairs names no video; give the official splits.")
    every = concatenate(parts)
    every.check_any()
    means = video_means(every.points, np.concatenate(owner), len(per_video))
    videos_without = [(listed.keys[video], "no frame with a face") for video in np.flatnonzero(faces == 0)]
    return means, faces > 0, replace(every, rejected=(*every.rejected, *videos_without))


def _frames(video: Path) -> list[Path]:
    """The frames of a video, ordered by the numbers in their names: `0.99.jpg` before `0.100.jpg`."""
    if not video.is_dir():
        raise InputError(f"The video folder {video} is missing; give the folder of YouTube Faces' frames.")
    files = [video / entry.name for entry in list_entries(video) if is_image(entry)]
    if not files:
        raise InputError(f"The video folder {video} holds no images; restore it.")

    def order(file: Path) -> tuple[Any, ...]:
        return tuple(int(part) if part.isdigit() else -1 for part in file.stem.split(".")), file.name

    return sorted(files, key=order)


def video_means(points: NDArray[np.float32], video: NDArray[np.int64], videos: int) -> NDArray[np.float64]:
    """The mean vector of each video's frames, not normalised.

    Args:
      points: float32 [frames, d], unit vectors.
      video: int64 [frames], which video each is of.
      videos: how many there are.

    Returns:
      float64 [videos, d]; zeros where a video has no frame.
    """
    sums = np.zeros((videos, points.shape[1]))
    np.add.at(sums, video, points.astype(np.float64))
    return sums / np.maximum(np.bincount(video, minlength=videos), 1)[:, None]


def mean_distances(means: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean squared distance over all pairs of frames of two videos.

    For unit vectors it is 2 - 2 x.y for each pair of frames, and their mean is 2 - 2 m1.m2: the cost grows with the
    number of frames, not of pairs.

    Args:
      means: float64 [videos, d], as `video_means`.
      pairs: int64 [n, 2].

    Returns:
      float32 [n].
    """
    products = np.einsum("nd,nd->n", means[pairs[:, 0]], means[pairs[:, 1]])
    return (2 - 2 * products).astype(np.float32)
