"""The protocols on published pairs: lfw (section 5.6), the field's .bin files, ytf (section 5.7)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.folder import SUFFIXES
from facenet_jax.embedders.engine import EmbeddedFaces, Images, concatenate, embed_images
from facenet_jax.errors import InputError
from facenet_jax.evaluation.bootstrap import Comparison, interval, mcnemar
from facenet_jax.evaluation.folds import FoldsResult, accuracy_over_folds, best_threshold, format_folds
from facenet_jax.evaluation.pair_lists import PairList, read_bin, read_lfw_pairs, read_ytf_splits
from facenet_jax.evaluation.pair_metrics import (
    PairMetrics,
    format_interval,
    format_rates,
    metrics_of_listed_pairs,
    metrics_to_json,
)
from facenet_jax.evaluation.plots import accuracy_figure
from facenet_jax.evaluation.protocols import compare_judged, judged_figures, wrong_to_json
from facenet_jax.evaluation.request import (
    AnyEmbedder,
    Outcome,
    Request,
    about,
    as_documents,
    format_comparisons,
    heading,
    listed_images,
)
from facenet_jax.evaluation.videos import mean_distances, video_means
from facenet_jax.images.crop import Crop
from facenet_jax.images.cut import FaceCutter
from facenet_jax.runtime.progress import Progress

FARS = (1e-2, 1e-3)


@dataclass(frozen=True)
class _Compared:
    """An embedder on a list of pairs: which pairs could be judged, and their distances."""

    embedder: AnyEmbedder
    embedded: EmbeddedFaces
    judged_pairs: NDArray[np.bool_]
    distances: NDArray[np.float32]


def run_lfw(request: Request, data: Path, pairs: Path, fars: Sequence[float] = FARS) -> Outcome:
    """LFW, view 2: ten folds of pairs, each judged by the threshold that is best on the other nine."""
    listed = _without_known(request, read_lfw_pairs(pairs))
    compared = _on_images(request, listed, listed_images(data, listed.keys))
    return _over_folds("lfw", request, str(pairs), str(data), listed, compared, fars, "LFW, view 2")


def run_lfw_view1(
    request: Request,
    train: tuple[Path, Path, Crop],
    test: tuple[Path, Path, Crop],
    fars: Sequence[float] = FARS,
) -> Outcome:
    """LFW, view 1: the threshold from one list of pairs, the accuracy on another.

    Args:
      request: as ever; its own crop is not used.
      train, test: the folder of images, the list of pairs and the crop of either.
      fars: for the rates on the second list.
    """
    sides = []
    for data, pairs, crop in (train, test):
        listed = _without_known(request, read_lfw_pairs(pairs))
        sides.append((listed, _on_images(request, listed, listed_images(data, listed.keys), FaceCutter(crop))))
    (train_list, train_side), (test_list, test_side) = ((listed, _in_all(side)) for listed, side in sides)
    entries, tables, correct = [], [], []
    judged: dict[str, PairMetrics] = {}
    for chosen, one in zip(train_side, test_side, strict=True):
        threshold = best_threshold(chosen.distances, train_list.same[chosen.judged_pairs])
        same = test_list.same[one.judged_pairs]
        right = (one.distances <= threshold) == same
        accuracy = float(right.mean())
        judged[one.embedder.name] = result = _judge(test_list, one, fars)
        ends = _accuracy_interval(test_list, one, right)
        error = float(np.sqrt(accuracy * (1 - accuracy) / len(right)))
        correct.append((one.embedder.name, right))
        tables.append(
            f"{heading(one.embedder, one.embedded)}\n  accuracy {100 * accuracy:.2f}% ± {100 * error:.2f} on "
            f"{len(right):,} pairs (95 % over people: {format_interval(ends)}), threshold {threshold:.4f} from "
            f"{len(chosen.distances):,} other pairs\n  {format_rates(result)}"
        )
        document = metrics_to_json(result) | {
            "accuracy": accuracy,
            "standard_error": error,
            "accuracy_over_identities": ends,
            "threshold": threshold,
            "wrong": wrong_to_json(result.wrong, test_list.keys, np.array(test_list.people)),
        }
        entries.append(about(one.embedder, test[2], one.embedded) | {"result": document})
    comparisons = _compared_accuracies(correct) + compare_judged(judged, fars)
    return _outcome(
        "lfw-view1",
        request,
        f"{train[1]}, {test[1]}",
        f"{train[0]}, {test[0]}",
        entries,
        tables,
        comparisons,
        judged_figures(judged, "LFW, view 1"),
        f"{train[2]}, {test[2]}",
    )


def run_pairs(request: Request, file: Path, fars: Sequence[float] = FARS) -> Outcome:
    """The field's .bin files, by ten folds."""
    listed, files = read_bin(file)
    digest = hashlib.blake2b(b"".join(hashlib.blake2b(f).digest() for f in files), digest_size=16).hexdigest()
    images = Images(listed.keys, lambda number: files[number], digest)
    compared = _on_images(request, listed, images)
    return _over_folds("pairs", request, str(file), str(file), listed, compared, fars, file.stem)


def run_ytf(request: Request, data: Path, splits: Path, frames: int = 100, fars: Sequence[float] = FARS) -> Outcome:
    """YouTube Faces: mean squared distance over all pairs of the first frames in which the detector finds a face."""
    if frames < 1:
        raise InputError(f"--frames={frames} of each video show nothing; give at least 1 (the default is 100).")
    listed = _without_known(request, read_ytf_splits(splits))
    per_video = [_frames(data / video) for video in listed.keys]
    # Where faces must be found, more frames than wanted may have to be looked at; they are, video by video.
    cutter = FaceCutter(request.crop, need_face=True)
    compared = []
    for embedder in request.embedders:
        means, found, embedded = _video_means(request, embedder, cutter, listed, per_video, data, frames)
        there = np.asarray(found[listed.pairs].all(axis=1))
        distances = mean_distances(means, listed.pairs[there])
        compared.append(_Compared(embedder, embedded, there, distances))
    return _over_folds(
        "ytf", request, str(splits), str(data), listed, compared, fars, f"YouTube Faces, {frames} frames"
    )


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
        one = embed_images(embedder, images, cutter, request.keep, Progress(quiet=not request.progress))
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
    """The frames of a video in order: by the numbers in their names, which `0.100.jpg` and `0.99.jpg` need."""
    if not video.is_dir():
        raise InputError(f"The video folder {video} is missing; give the folder of YouTube Faces' frames.")
    files = [video / name for name in os.listdir(video) if name.lower().endswith(tuple(s.decode() for s in SUFFIXES))]
    if not files:
        raise InputError(f"The video folder {video} holds no images; restore it.")

    def order(file: Path) -> tuple[Any, ...]:
        return tuple(int(part) if part.isdigit() else -1 for part in file.stem.split(".")), file.name

    return sorted(files, key=order)


def _on_images(request: Request, listed: PairList, images: Images, cutter: FaceCutter | None = None) -> list[_Compared]:
    compared = []
    for embedder in request.embedders:
        one = request.embed(embedder, images, cutter)
        there = np.asarray(one.usable[listed.pairs].all(axis=1))
        first, second = (one.points_of(listed.pairs[there, side]) for side in (0, 1))
        difference = first - second
        compared.append(_Compared(embedder, one, there, np.einsum("nd,nd->n", difference, difference)))
    return compared


def _in_all(compared: Sequence[_Compared]) -> list[_Compared]:
    """On the pairs that every embedder could judge, as comparisons need them."""
    there = np.logical_and.reduce([one.judged_pairs for one in compared])
    return [replace(one, judged_pairs=there, distances=one.distances[there[one.judged_pairs]]) for one in compared]


def _without_known(request: Request, listed: PairList) -> PairList:
    known = request.known_names(sorted(set(listed.people)))
    return listed.without(known) if known and request.leave_out else listed


def _judge(listed: PairList, one: _Compared, fars: Sequence[float]) -> PairMetrics:
    _, identity = np.unique(np.array(listed.people), return_inverse=True)
    pairs, same = listed.pairs[one.judged_pairs], listed.same[one.judged_pairs]
    return metrics_of_listed_pairs(one.distances, pairs, same, identity.astype(np.int64), fars)


def _accuracy_interval(
    listed: PairList, one: _Compared, right: NDArray[np.bool_], replicates: int = 1000
) -> tuple[float, float] | None:
    """The 95 % interval of the accuracy, people drawn anew."""
    from facenet_jax.evaluation.bootstrap import identity_weights

    _, identity = np.unique(np.array(listed.people), return_inverse=True)
    first, second = identity[listed.pairs[one.judged_pairs]].T
    weights = identity_weights(int(identity.max()) + 1, replicates)
    counts = np.where(first == second, weights[:, first], weights[:, first] * weights[:, second])
    totals = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return interval((counts @ right) / totals)


def _compared_accuracies(correct: Sequence[tuple[str, NDArray[np.bool_]]]) -> list[Comparison]:
    first = correct[0]
    return [mcnemar(first, other) for other in correct[1:]]


def _over_folds(
    protocol: str,
    request: Request,
    pairs: str,
    data: str,
    listed: PairList,
    compared: Sequence[_Compared],
    fars: Sequence[float],
    title: str,
) -> Outcome:
    entries, tables, correct = [], [], []
    judged: dict[str, PairMetrics] = {}
    folds: dict[str, FoldsResult] = {}
    for one in _in_all(compared):
        same, fold = listed.same[one.judged_pairs], listed.fold[one.judged_pairs]
        name = one.embedder.name
        folds[name] = result = accuracy_over_folds(one.distances, same, fold)
        judged[name] = rates = _judge(listed, one, fars)
        ends = _accuracy_interval(listed, one, result.correct)
        correct.append((name, result.correct))
        tables.append(
            f"{heading(one.embedder, one.embedded)}\n{format_folds(result)}\n"
            f"  95 % over people: {format_interval(ends)}\n  {format_rates(rates)}"
        )
        document = metrics_to_json(rates) | {
            "accuracy": result.accuracy,
            "standard_error": result.standard_error,
            "accuracy_over_identities": ends,
            "accuracies": list(result.accuracies),
            "thresholds": list(result.thresholds),
            "wrong": wrong_to_json(rates.wrong, listed.keys, np.array(listed.people)),
        }
        entries.append(about(one.embedder, request.crop, one.embedded) | {"result": document})
    comparisons = _compared_accuracies(correct) + compare_judged(judged, fars)
    figures = judged_figures(judged, title) | {"folds.png": partial(accuracy_figure, folds, title)}
    return _outcome(protocol, request, pairs, data, entries, tables, comparisons, figures, request.crop)


def _outcome(
    protocol: str,
    request: Request,
    pairs: str,
    data: str,
    entries: list[dict[str, Any]],
    tables: list[str],
    comparisons: Sequence[Comparison],
    figures: dict[str, Any],
    crop: str,
) -> Outcome:
    texts = [*tables, *([format_comparisons(comparisons)] if comparisons else [])]
    document = {
        "protocol": protocol,
        "data": data,
        "pairs": pairs,
        "crop": crop,
        "left_out": request.left_out if request.leave_out else [],
        "shared_and_kept": [] if request.leave_out else request.left_out,
        "embedders": entries,
        "comparisons": as_documents(comparisons),
    }
    return Outcome(protocol, "\n\n".join(texts), document, figures)
