"""Protocol of section 5.6: Labelled Faces in the Wild, view 2 (ten folds) or view 1 (threshold from other pairs)."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from facenet_jax.datasets.names import comparable
from facenet_jax.embedders.labelled_images import listed_images
from facenet_jax.errors import InputError
from facenet_jax.evaluation.folds import best_threshold
from facenet_jax.evaluation.pair_metrics import PairMetrics, format_interval, format_rates, metrics_to_json
from facenet_jax.evaluation.protocols.common import (
    Report,
    add_against,
    add_fars,
    check_fars_asked,
    compare_metrics,
    metrics_figures,
    wrong_to_json,
)
from facenet_jax.evaluation.protocols.listed import (
    PairList,
    accuracy_interval,
    check_folds,
    compare_accuracies,
    is_number,
    listed_distances,
    listed_metrics,
    over_folds,
    usable_by_all,
    without_known,
)
from facenet_jax.evaluation.request import Outcome, Request, heading
from facenet_jax.images.crop import CROPS
from facenet_jax.images.cut import FaceCutter
from facenet_jax.runtime.files import read_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --data, --pairs, those of view 1, --against and --far."""
    parser.add_argument("--data", type=Path, required=True, help="LFW as it is unpacked: Name/Name_0001.jpg")
    parser.add_argument("--pairs", type=Path, required=True, help="pairs.txt, or pairsDevTest.txt for view 1")
    parser.add_argument("--threshold-pairs", type=Path, help="view 1: pairsDevTrain.txt, whose best threshold is used")
    parser.add_argument("--threshold-data", type=Path, help="the images of those (default: --data)")
    parser.add_argument("--threshold-crop", choices=CROPS, help="how those are cut (default: --crop)")
    add_against(parser)
    add_fars(parser)


def check(options: argparse.Namespace) -> None:
    """Raises InputError for rates out of range, or options of view 1 without its list."""
    check_fars_asked(options)
    if options.threshold_pairs is None:
        for key in ("threshold_data", "threshold_crop"):
            if getattr(options, key) is not None:
                raise InputError(f"--{key.replace('_', '-')} is of --threshold-pairs; give that too, or leave it out.")


def run(request: Request, options: argparse.Namespace) -> Outcome:
    """View 1 where --threshold-pairs is given, else view 2."""
    if options.threshold_pairs is not None:
        return _view_1(request, options)
    listed = without_known(request, _read_view_2(options.pairs))
    compared = listed_distances(request, listed, listed_images(options.data, listed.keys))
    return over_folds("lfw", request, (options.data, options.pairs), listed, compared, options.fars, "LFW, view 2")


def _view_1(request: Request, options: argparse.Namespace) -> Outcome:
    """The threshold from one list of pairs, the accuracy on another, each with images and a crop of its own."""
    train = options.threshold_data or options.data, options.threshold_pairs, options.threshold_crop or request.crop
    test = options.data, options.pairs, request.crop
    sides = []
    for data, pairs, crop in (train, test):
        listed = without_known(request, read_lfw_pairs(pairs))
        distances = listed_distances(request, listed, listed_images(data, listed.keys), FaceCutter(crop))
        sides.append((listed, usable_by_all(distances)))
    (train_list, train_side), (test_list, test_side) = sides
    report, correct = Report(), []
    metrics: dict[str, PairMetrics] = {}
    for chosen, one in zip(train_side, test_side, strict=True):
        threshold = best_threshold(chosen.distances, train_list.same[chosen.usable])
        same = test_list.same[one.usable]
        right = (one.distances <= threshold) == same
        accuracy = float(right.mean())
        metrics[one.embedder.name] = result = listed_metrics(test_list, one, options.fars)
        ends = accuracy_interval(test_list, one, right)
        error = float(np.sqrt(accuracy * (1 - accuracy) / len(right)))
        correct.append((one.embedder.name, right))
        table = (
            f"{heading(one.embedder, one.embedded)}\n  accuracy {100 * accuracy:.2f}% ± {100 * error:.2f} on "
            f"{len(right):,} pairs (95 % over people: {format_interval(ends)}), threshold a squared "
            f"distance of {threshold:.4f} from {len(chosen.distances):,} other pairs\n  {format_rates(result)}"
        )
        document = metrics_to_json(result) | {
            "accuracy": accuracy,
            "standard_error": error,
            "accuracy_over_identities": ends,
            "threshold": threshold,
            "wrong": wrong_to_json(result.wrong, test_list.keys, np.array(test_list.people)),
        }
        report.add(table, one.embedder, test[2], one.embedded, document)
    data, pairs, crop = (f"{ours}, {others}" for ours, others in zip(train, test, strict=True))
    return report.outcome(
        "lfw-view1",
        request,
        data,
        pairs=pairs,
        crop=crop,
        comparisons=compare_accuracies(correct) + compare_metrics(metrics, options.fars),
        figures=metrics_figures(metrics, "LFW, view 1"),
    )


def _read_view_2(path: Path) -> PairList:
    hint = "; for view 1 give its pairsDevTrain.txt as --threshold-pairs, for view 2 pairs.txt as --pairs"
    return check_folds(read_lfw_pairs(path), path, hint)


def _parts(line: str) -> list[str]:
    # With tabs, a name may have blanks.
    return [part.strip() for part in line.strip().split("\t")] if "\t" in line.strip() else line.split()


def read_lfw_pairs(path: Path) -> PairList:
    """LFW's `pairs.txt` (ten folds), `pairsDevTrain.txt` or `pairsDevTest.txt` (one).

    The first line says `folds n` or `n`; in each fold n lines `name i j` of the same person are followed by n lines
    `name i name j` of different people. Parts are divided by tabs, or by blanks; empty lines are ignored.

    Raises:
      InputError: a line is wrong, or the number of lines is not as the first line says.
    """
    text = comparable(read_text(path, str(path))).split("\n")  # one Unicode form for each name
    lines = [(n, _parts(line)) for n, line in enumerate(text, 1) if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty; give LFW's file of pairs.")
    head = lines[0][1]
    if len(head) not in (1, 2) or not all(is_number(part) and int(part) > 0 for part in head):
        raise InputError(
            f"{path}, line {lines[0][0]}: {' '.join(head)!r:.200} does not say how many folds and pairs there are; "
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
        if len(parts) != wanted or not all(is_number(parts[at]) for at in places):
            kind = "`name i j`, a pair of the same person" if is_same else "`name i name j`, of different people"
            advice = "divide its parts by tabs if a name has blanks, or restore" if len(parts) > wanted else "restore"
            raise InputError(f"{path}, line {number}: {' '.join(parts)!r:.200} is not {kind}; {advice} the file.")
        if not is_same and parts[0] == parts[2]:
            raise InputError(f"{path}, line {number}: {parts[0]:.100} stands twice in a pair of different people.")
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
