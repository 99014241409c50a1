"""Protocol of section 5.4 and Table 5: float32 compared with one byte a coordinate; embeddings of several sizes."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.base import UNIT_NORM_TOLERANCE
from facenet_jax.evaluation.bootstrap import Comparison
from facenet_jax.evaluation.compact import Packed, calibrate, distance_error, largest_error, pack
from facenet_jax.evaluation.holdout import (
    HoldoutResult,
    format_holdout,
    holdout,
    holdout_intervals,
    holdout_to_json,
    resolved_fars,
)
from facenet_jax.evaluation.protocols.common import (
    Report,
    add_fars,
    add_folder,
    check_fars_asked,
    compare_vals,
    embed_faces,
)
from facenet_jax.evaluation.request import Outcome, Request, heading, prepared_folder

check = check_fars_asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --data and --far."""
    add_folder(parser)
    add_fars(parser)


def run(request: Request, options: argparse.Namespace) -> Outcome:
    """The hold-out protocol in both forms, their difference, and the errors of distances."""
    folder = prepared_folder(request, options.data)
    faces = embed_faces(request, folder)
    comparisons: list[Comparison] = []
    report = Report()
    fars = resolved_fars(faces.labels, options.fars)
    for embedder, embedded, points, _ in faces.by_embedder:
        packed = pack(points, calibrate(points))
        rounded = UNIT_NORM_TOLERANCE + packed.rounding
        forms = {"float32": (points, UNIT_NORM_TOLERANCE), "int8": (packed.points, rounded)}
        results, vals = {}, []
        for form, (some, near) in forms.items():
            results[form] = holdout(some, faces.labels, fars, tolerance=near)
            sure = holdout_intervals(some, faces.labels, fars, tolerance=near)
            vals.append((f"{embedder.name} as {form}", [rate.val for rate in results[form].rates], sure.replicates))
        comparisons += compare_vals(vals, fars)
        size = points.shape[1]
        texts = [
            f"{form}, {size * width:,} bytes: {format_holdout(results[form])}"
            for form, width in (("float32", 4), ("int8", 1))
        ]
        errors = _errors_of_distances(points, packed, results["float32"])
        table = "\n".join([heading(embedder, embedded), f"  {size} dimensions", *texts, _format_errors(errors)])
        document = {form: holdout_to_json(result) for form, result in results.items()} | {"int8_errors": errors}
        report.add(table, embedder, request.crop, embedded, document)
    return report.outcome("compact", request, str(folder.root), comparisons=comparisons, counts_pairs=True)


def _errors_of_distances(points: NDArray[np.float32], packed: Packed, result: HoldoutResult) -> dict[str, Any]:
    """Errors of distances by rounding to bytes: the bound by both vectors' largest rounding error, and as measured."""
    thresholds = [rate.threshold for rate in result.rates if rate.threshold is not None]
    return {
        "step": packed.step,
        "clipped": packed.clipped,
        "coordinates": int(points.size),
        "rounding": packed.rounding,
        "at_most": {f"{threshold:.4f}": distance_error(2 * packed.rounding, threshold) for threshold in thresholds},
        "seen": largest_error(points, packed.points),
    }


def _format_errors(errors: dict[str, Any]) -> str:
    most = ", ".join(
        f"{error:.4f} at a squared distance of {distance}" for distance, error in errors["at_most"].items()
    )
    bound = f"a squared distance is off by at most {most}" if most else "no threshold was resolved to bound an error at"
    return (
        f"  int8: a step of {errors['step']:.5f}, {errors['clipped']:,} of {errors['coordinates']:,} coordinates "
        f"clipped, vectors off by up to {errors['rounding']:.4f}\n  {bound}; "
        f"the largest error seen is {errors['seen']:.4f}"
    )
