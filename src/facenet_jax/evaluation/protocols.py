"""The protocols on a folder of labelled faces: holdout, photos, robustness, compact, identify, cluster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.base import UNIT_NORM_TOLERANCE
from facenet_jax.embedders.engine import EmbeddedFaces
from facenet_jax.errors import InputError
from facenet_jax.evaluation import clustering, identification
from facenet_jax.evaluation.bootstrap import Comparison, compare_replicates
from facenet_jax.evaluation.compact import Packed, calibrate, distance_error, largest_error, pack
from facenet_jax.evaluation.few_faces import few_faces
from facenet_jax.evaluation.holdout import (
    HoldoutIntervals,
    HoldoutResult,
    format_holdout,
    holdout,
    holdout_intervals,
    holdout_to_json,
)
from facenet_jax.evaluation.labelled_pairs import WrongPairs, worst
from facenet_jax.evaluation.pair_metrics import (
    PairMetrics,
    finite,
    format_interval,
    format_rates,
    metrics_of_all_pairs,
    metrics_to_json,
)
from facenet_jax.evaluation.plots import Curves, curves_figure, histogram_figure, quality_figure, roc_figure
from facenet_jax.evaluation.quality import FULL_SIDE, IMAGE_SIZES, JPEG_QUALITIES, recompress, shrink
from facenet_jax.evaluation.request import (
    Folder,
    Outcome,
    Request,
    about,
    as_documents,
    common,
    format_comparisons,
    heading,
    prepared_folder,
)
from facenet_jax.images.cut import Alteration, FaceCutter

FARS = (1e-2, 1e-3)


def run_holdout(request: Request, folder: Folder, fars: Sequence[float] = FARS, splits: int = 5) -> Outcome:
    """Section 4.1: VAL over splits of identities, all pairs between their halves."""
    embedded, chosen = _embedded(request, folder)
    labels = folder.labels[chosen]
    keys = [folder.images.keys[i] for i in chosen]
    results: dict[str, HoldoutResult] = {}
    intervals: dict[str, HoldoutIntervals] = {}
    entries, tables = [], []
    for embedder, one in zip(request.embedders, embedded, strict=True):
        points = one.points_of(chosen)
        result = results[embedder.name] = holdout(points, labels, fars, splits)
        sure = intervals[embedder.name] = holdout_intervals(points, labels, fars, splits)
        area, rate = (float(np.mean([getattr(s, key) for s in result.splits])) for key in ("area", "equal_error_rate"))
        tables.append(
            "\n".join(
                [
                    heading(embedder, one),
                    format_holdout(result),
                    *_format_intervals(result, sure),
                    f"  area under the ROC curve {area:.5f}, equal error rate {100 * rate:.2f}%, means over splits",
                ]
            )
        )
        wrong = _merged_wrong(sure.wrong)
        document = holdout_to_json(result) | {
            "intervals_over_identities": list(sure.over_identities),
            "intervals_over_pairs": list(sure.over_pairs),
            "area": finite(area),
            "equal_error_rate": finite(rate),
            "roc": [{"far": s.roc_far.tolist(), "val": s.roc_val.tolist()} for s in result.splits],
            "wrong": wrong_to_json(wrong, keys, labels),
            "few_faces": few_faces(points, labels, keys),
        }
        entries.append(about(embedder, request.crop, one) | {"result": document})
    comparisons = _compare(
        [(name, [rate.val for rate in results[name].rates], intervals[name].replicates) for name in results], fars
    )
    return _outcome("holdout", request, folder, entries, tables, comparisons, {"roc.png": partial(roc_figure, results)})


def run_photos(request: Request, data: Path, fars: Sequence[float] = FARS) -> Outcome:
    """Section 4.2: all squared pairs of a folder of photographs, never a face with itself."""
    folder = prepared_folder(request, data)
    embedded, chosen = _embedded(request, folder)
    labels = folder.labels[chosen]
    judged = {
        e.name: metrics_of_all_pairs(one.points_of(chosen), labels, fars)
        for e, one in zip(request.embedders, embedded, strict=True)
    }
    entries, tables = [], []
    keys = [folder.images.keys[i] for i in chosen]
    for embedder, one in zip(request.embedders, embedded, strict=True):
        result = judged[embedder.name]
        tables.append(f"{heading(embedder, one)}\n{format_rates(result)}")
        document = metrics_to_json(result) | {
            "wrong": wrong_to_json(result.wrong, keys, labels),
            "few_faces": few_faces(one.points_of(chosen), labels, keys),
        }
        entries.append(about(embedder, request.crop, one) | {"result": document})
    comparisons = compare_judged(judged, fars)
    return _outcome(
        "photos", request, folder, entries, tables, comparisons, judged_figures(judged, "all pairs of photographs")
    )


def run_robustness(request: Request, data: Path, far: float = 1e-3) -> Outcome:
    """Table 4: VAL on the first split of the hold-out against JPEG quality and image size."""
    folder = prepared_folder(request, data)
    tables, entries, series = [], [], {}
    for embedder in request.embedders:
        rows: dict[str, dict[int, Any]] = {"jpeg_quality": {}, "image_pixels": {}}
        for kind, grid, alter in (
            ("jpeg_quality", JPEG_QUALITIES, recompress),
            ("image_pixels", IMAGE_SIZES, shrink),
        ):
            for value in grid:
                worse = Alteration(f"{kind}={value}", partial(alter, value), FULL_SIDE)
                one = request.embed(embedder, folder.images, FaceCutter(request.crop, alteration=worse))
                first = holdout(one.points, folder.labels[one.usable], [far]).splits[0]
                rows[kind][value] = {
                    "val": first.points[0].val,
                    "pairs_needed": first.points[0].pairs_needed,
                    "same_pairs": first.same_pairs,
                    "different_pairs": first.different_pairs,
                    "paper": grid[value] / 100,
                }
        series[embedder.name] = rows
        entries.append(about(embedder, request.crop) | {"result": {"far": far} | rows})
        tables.append(f"{embedder.name}\n{_format_quality(rows, far)}")
    return _outcome(
        "robustness", request, folder, entries, tables, (), {"quality.png": partial(quality_figure, series, far)}
    )


def run_compact(request: Request, data: Path, fars: Sequence[float] = FARS) -> Outcome:
    """Table 5 and section 5.4: float32 against one byte a coordinate; embeddings of several sizes side by side."""
    folder = prepared_folder(request, data)
    embedded, chosen = _embedded(request, folder)
    labels = folder.labels[chosen]
    entries, tables = [], []
    comparisons: list[Comparison] = []
    for embedder, one in zip(request.embedders, embedded, strict=True):
        points = one.points_of(chosen)
        packed = pack(points, calibrate(points))
        rounded = UNIT_NORM_TOLERANCE + packed.rounding
        forms = {"float32": (points, UNIT_NORM_TOLERANCE), "int8": (packed.points, rounded)}
        results = {form: holdout(p, labels, fars, tolerance=near) for form, (p, near) in forms.items()}
        sure = {form: holdout_intervals(p, labels, fars, tolerance=near) for form, (p, near) in forms.items()}
        comparisons += _compare(
            [
                (f"{embedder.name} as {form}", [rate.val for rate in results[form].rates], sure[form].replicates)
                for form in forms
            ],
            fars,
        )
        size = points.shape[1]
        texts = [
            f"{form}, {size * width:,} bytes: {format_holdout(results[form])}"
            for form, width in (("float32", 4), ("int8", 1))
        ]
        errors = _errors_of_distances(points, packed, results["float32"])
        tables.append("\n".join([heading(embedder, one), f"  {size} dimensions", *texts, _format_errors(errors)]))
        document = {form: holdout_to_json(result) for form, result in results.items()} | {"int8_errors": errors}
        entries.append(about(embedder, request.crop, one) | {"result": document})
    return _outcome("compact", request, folder, entries, tables, comparisons, {})


def run_identify(request: Request, data: Path, false_alarm_rates: Sequence[float] = (0.1, 0.01)) -> Outcome:
    """Rank-1 identification, and the open-set identification rate at false-alarm rates."""
    folder = prepared_folder(request, data)
    embedded, chosen = _embedded(request, folder)
    entries, tables = [], []
    for embedder, one in zip(request.embedders, embedded, strict=True):
        result = identification.identify(one.points_of(chosen), folder.labels[chosen], false_alarm_rates)
        tables.append(f"{heading(embedder, one)}\n{identification.format_identified(result)}")
        entries.append(about(embedder, request.crop, one) | {"result": _plain(result)})
    return _outcome("identify", request, folder, entries, tables, (), {})


def run_cluster(request: Request, data: Path, threshold: float | None = None) -> Outcome:
    """Section 5.8: agglomerative clustering at a threshold."""
    folder = prepared_folder(request, data)
    embedded, chosen = _embedded(request, folder)
    entries, tables = [], []
    for embedder, one in zip(request.embedders, embedded, strict=True):
        result = clustering.cluster(one.points_of(chosen), folder.labels[chosen], threshold)
        tables.append(f"{heading(embedder, one)}\n{clustering.format_clustered(result)}")
        keys = [folder.images.keys[i] for i in chosen[result.faces]]
        document = _plain(result.score) | {"threshold": result.threshold, "chosen_on": result.chosen_on}
        document["clusters_shown"] = _largest_clusters(result, keys)
        entries.append(about(embedder, request.crop, one) | {"result": document})
    return _outcome("cluster", request, folder, entries, tables, (), {})


def judged_figures(judged: dict[str, PairMetrics], title: str) -> dict[str, Any]:
    """ROC curves of all embedders, and each one's histogram of distances."""
    curves: Curves = {name: [(one.curve.far, one.curve.val)] for name, one in judged.items()}
    first = next(iter(judged.values()))
    pairs = f"{first.same_pairs:,} same and {first.different_pairs:,} different pairs"
    figures: dict[str, Any] = {"roc.png": partial(curves_figure, curves, f"{title}\n{pairs}")}
    for number, (name, one) in enumerate(judged.items(), 1):
        file = "distances.png" if len(judged) == 1 else f"distances_{number}.png"
        figures[file] = partial(
            histogram_figure,
            one.same_histogram,
            one.different_histogram,
            [(point.far, point.threshold) for point in one.points if point.threshold is not None],
            name,
        )
    return figures


def compare_judged(judged: dict[str, PairMetrics], fars: Sequence[float]) -> list[Comparison]:
    """Every embedder after the first against the first, by the paired bootstrap."""
    return _compare([(name, [point.val for point in one.points], one.replicates) for name, one in judged.items()], fars)


def wrong_to_json(wrong: WrongPairs, keys: Sequence[str], labels: NDArray[np.str_]) -> dict[str, Any]:
    """Wrong pairs by the names of their images, and people by theirs."""
    names = np.unique(labels)
    return {
        "false_accepts": [[keys[i], keys[j], round(d, 6)] for i, j, d in wrong.accepts],
        "false_rejects": [[keys[i], keys[j], round(d, 6)] for i, j, d in wrong.rejects],
        "worst_identities": [
            {"name": str(names[i]), "same_pairs": total, "rejected": missed, "false_accepts": confused}
            for i, total, missed, confused in wrong.people
        ],
    }


def _embedded(request: Request, folder: Folder) -> tuple[list[EmbeddedFaces], NDArray[np.intp]]:
    embedded = [request.embed(embedder, folder.images) for embedder in request.embedders]
    return embedded, common(embedded)


def _compare(
    rates: Sequence[tuple[str, Sequence[float | None], NDArray[np.float64] | None]], fars: Sequence[float]
) -> list[Comparison]:
    comparisons = []
    first_name, first_vals, first_replicates = rates[0]
    for name, vals, replicates in rates[1:]:
        if first_replicates is None or replicates is None:
            continue
        for place, far in enumerate(fars):
            before, after = first_vals[place], vals[place]
            if before is not None and after is not None:
                comparisons.append(
                    compare_replicates(
                        (first_name, before, first_replicates[:, place]),
                        (name, after, replicates[:, place]),
                        f"VAL at FAR {far:g}",
                    )
                )
    return comparisons


def _format_intervals(result: HoldoutResult, sure: HoldoutIntervals) -> list[str]:
    if all(rate.val is None for rate in result.rates):
        return []
    if sure.replicates is None:
        return ["  too many pairs to draw people anew: no intervals"]
    return [
        f"  95 % at FAR {rate.far:g}: {format_interval(people)} over people (over pairs {format_interval(pairs)})"
        for rate, people, pairs in zip(result.rates, sure.over_identities, sure.over_pairs, strict=True)
        if rate.val is not None
    ]


def _errors_of_distances(points: NDArray[np.float32], packed: Packed, result: HoldoutResult) -> dict[str, Any]:
    """What rounding to bytes does to distances: at most, by both vectors' largest rounding error, and as seen."""
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
    most = ", ".join(f"{bound:.4f} at a distance of {distance}" for distance, bound in errors["at_most"].items())
    return (
        f"  int8: a step of {errors['step']:.5f}, {errors['clipped']:,} of {errors['coordinates']:,} coordinates "
        f"clipped, vectors off by up to {errors['rounding']:.4f}\n  a distance is off by at most {most or '-'}; "
        f"the largest error seen is {errors['seen']:.4f}"
    )


def _format_quality(rows: dict[str, dict[int, Any]], far: float) -> str:
    lines = [f"  VAL at FAR {far:g} on the first split of the hold-out; in brackets what the paper has for NN1"]
    for kind, name in (("jpeg_quality", "JPEG quality"), ("image_pixels", "pixels")):
        for value, row in rows[kind].items():
            said = "unresolved" if row["val"] is None else f"{100 * row['val']:.1f}%"
            if row["val"] is None:
                said += f": needs {row['pairs_needed']:,} different pairs, has {row['different_pairs']:,}"
            lines.append(f"  {f'{name} {value:,}':<20}{said:<10}({100 * row['paper']:.1f}%)")
    return "\n".join(lines)


def _merged_wrong(parts: Sequence[WrongPairs]) -> WrongPairs:
    """Of several splits: the numbers of faces and people are the same in all."""
    accepts = sorted((p for part in parts for p in part.accepts), key=lambda pair: pair[2])
    rejects = sorted((p for part in parts for p in part.rejects), key=lambda pair: -pair[2])
    people = worst([person for part in parts for person in part.people])
    return WrongPairs(tuple(accepts[:100]), tuple(rejects[:100]), people[:100])


def _largest_clusters(result: clustering.Clustered, keys: Sequence[str], most: int = 12) -> list[list[str]]:
    sizes = np.bincount(result.labels)
    return [
        [keys[i] for i in np.flatnonzero(result.labels == c)[:60]] for c in np.argsort(-sizes, kind="stable")[:most]
    ]


def _plain(result: Any) -> dict[str, Any]:
    from dataclasses import asdict

    plain: dict[str, Any] = asdict(result)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}


def _outcome(
    protocol: str,
    request: Request,
    folder: Folder,
    entries: list[dict[str, Any]],
    tables: list[str],
    comparisons: Sequence[Comparison],
    figures: dict[str, Any],
) -> Outcome:
    if not entries:
        raise InputError("No embedder was given; give at least one --embedder.")
    texts = [*tables, *([format_comparisons(comparisons)] if comparisons else [])]
    document = {
        "protocol": protocol,
        "data": str(folder.root),
        "crop": request.crop,
        "left_out": request.left_out if request.leave_out else [],
        "shared_and_kept": [] if request.leave_out else request.left_out,
        "embedders": entries,
        "comparisons": as_documents(comparisons),
    }
    return Outcome(protocol, "\n\n".join(texts), document, figures)
