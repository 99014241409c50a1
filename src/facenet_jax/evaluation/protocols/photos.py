"""Protocol of section 4.2: all squared pairs of a folder of photographs, never a face with itself."""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import ArrayLike

from facenet_jax.errors import InputError
from facenet_jax.evaluation.few_faces import few_faces
from facenet_jax.evaluation.pair_metrics import (
    PairMetrics,
    format_rates,
    metrics_of_all_pairs,
    metrics_to_json,
    resolved_fars,
)
from facenet_jax.evaluation.protocols.common import (
    Report,
    add_against,
    add_fars,
    add_folder,
    added,
    check_fars_asked,
    compare_metrics,
    embed_faces,
    metrics_figures,
    wrong_to_json,
)
from facenet_jax.evaluation.request import Outcome, Request, heading, prepared_folder

check = check_fars_asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --data, --against and --far."""
    add_folder(parser)
    add_against(parser)
    add_fars(parser)


def run(request: Request, options: argparse.Namespace) -> Outcome:
    """Rates, intervals, the ROC curve and wrong pairs."""
    folder = prepared_folder(request, options.data)
    _check_pairs(folder.labels, f"{folder.root} shows")
    faces = embed_faces(request, folder)
    _check_pairs(faces.labels, f"what is left of {folder.root} shows")
    fars = resolved_fars(faces.labels, options.fars)
    metrics: dict[str, PairMetrics] = {}
    report = Report()
    for embedder, embedded, points, known in faces.by_embedder:
        metrics[embedder.name] = result = metrics_of_all_pairs(points, faces.labels, fars, known)
        document = metrics_to_json(result) | {
            "smallest_far": added(options.fars, fars),
            "wrong": wrong_to_json(result.wrong, faces.keys, faces.labels),
            "few_faces": few_faces(points, faces.labels, faces.keys) if known is points else None,
        }
        table = f"{heading(embedder, embedded)}\n{format_rates(result)}"
        report.add(table, embedder, request.crop, embedded, document)
    return report.outcome(
        "photos",
        request,
        str(folder.root),
        comparisons=compare_metrics(metrics, fars),
        figures=metrics_figures(metrics, "all pairs of photographs"),
        counts_pairs=True,
    )


def _check_pairs(labels: ArrayLike, shows: str) -> None:
    """Raises InputError without a pair of one person or a pair of two people, since figures need both."""
    _, faces = np.unique(labels, return_counts=True)
    if len(faces) < 2 or faces.max() < 2:
        raise InputError(
            f"{shows} {len(faces):,} people, {np.count_nonzero(faces >= 2):,} of them with two faces or more; two "
            "people are needed, one of them with two faces: add people or photographs."
        )
