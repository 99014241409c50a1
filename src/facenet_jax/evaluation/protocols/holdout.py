"""Protocol of section 4.1: VAL at a FAR over splits of identities, all pairs between their halves."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from facenet_jax.errors import InputError
from facenet_jax.evaluation.few_faces import few_faces
from facenet_jax.evaluation.holdout import (
    HoldoutIntervals,
    HoldoutResult,
    areas,
    format_areas,
    format_holdout,
    holdout,
    holdout_intervals,
    holdout_to_json,
    resolved_fars,
)
from facenet_jax.evaluation.labelled_pairs import WrongPairs, worst
from facenet_jax.evaluation.pair_metrics import finite, format_interval
from facenet_jax.evaluation.plots import roc_figure
from facenet_jax.evaluation.protocols.common import (
    Report,
    add_against,
    add_fars,
    added,
    check_fars_asked,
    compare_vals,
    embed_faces,
    wrong_to_json,
)
from facenet_jax.evaluation.request import Outcome, Request, heading, prepared_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --data, --splits, --against and --far."""
    parser.add_argument("--data", type=Path, help="a folder <identity>/<image> (default: the run's own held-out faces)")
    parser.add_argument("--splits", type=int, default=5, help="of the identities (default: 5, as in the paper)")
    add_against(parser)
    add_fars(parser)


def check(options: argparse.Namespace) -> None:
    """Raises InputError for rates or splits out of range."""
    check_fars_asked(options)
    if options.splits < 1:
        raise InputError(f"--splits={options.splits}: give at least 1.")


def run(request: Request, options: argparse.Namespace) -> Outcome:
    """Mean and standard error over the splits, intervals, ROC curves and wrong pairs."""
    folder = request.held_out(request) if options.data is None else prepared_folder(request, options.data)
    faces = embed_faces(request, folder)
    splits = options.splits
    fars = resolved_fars(faces.labels, options.fars, splits)
    results: dict[str, HoldoutResult] = {}
    intervals: dict[str, HoldoutIntervals] = {}
    report = Report()
    for embedder, embedded, points, known in faces.by_embedder:
        result = results[embedder.name] = holdout(points, faces.labels, fars, splits, known=known)
        sure = intervals[embedder.name] = holdout_intervals(points, faces.labels, fars, splits, known=known)
        area, rate = areas(result)
        table = "\n".join(
            [
                heading(embedder, embedded),
                format_holdout(result),
                *_format_intervals(result, sure),
                format_areas(result),
            ]
        )
        document = holdout_to_json(result) | {
            "intervals_over_identities": list(sure.over_identities),
            "intervals_over_pairs": list(sure.over_pairs),
            "area": finite(area),
            "equal_error_rate": finite(rate),
            "smallest_far": added(options.fars, fars),
            "roc": [{"far": s.roc_far.tolist(), "val": s.roc_val.tolist()} for s in result.splits],
            "wrong": wrong_to_json(_merged_wrong(sure.wrong), faces.keys, faces.labels),
            "few_faces": few_faces(points, faces.labels, faces.keys) if known is points else None,
        }
        report.add(table, embedder, request.crop, embedded, document)
    vals = [(name, [rate.val for rate in results[name].rates], intervals[name].replicates) for name in results]
    return report.outcome(
        "holdout",
        request,
        str(folder.root),
        comparisons=compare_vals(vals, fars),
        figures={"roc.png": partial(roc_figure, results)},
        counts_pairs=True,
    )


def _format_intervals(result: HoldoutResult, sure: HoldoutIntervals) -> list[str]:
    if all(rate.val is None for rate in result.rates):
        return []
    if sure.replicates is None:
        return ["  too many pairs to resample people: no intervals"]
    return [
        f"  95 % at FAR {rate.far:g}: {format_interval(people)} over people (over pairs {format_interval(pairs)})"
        for rate, people, pairs in zip(result.rates, sure.over_identities, sure.over_pairs, strict=True)
        if rate.val is not None
    ]


def _merged_wrong(parts: Sequence[WrongPairs]) -> WrongPairs:
    """Merges the wrong pairs of several splits, which number faces and people in the same way."""
    accepts = sorted((p for part in parts for p in part.accepts), key=lambda pair: pair[2])
    rejects = sorted((p for part in parts for p in part.rejects), key=lambda pair: -pair[2])
    people = worst([person for part in parts for person in part.people])
    return WrongPairs(tuple(accepts[:100]), tuple(rejects[:100]), people[:100])
