"""What was measured -> the report's figures, and galleries of the viewer's own images."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from facenet_jax.report.collect import Collected, Measured
from facenet_jax.report.figures import (
    distance_histogram,
    history_figure,
    multiply_adds_figure,
    roc_curves,
)
from facenet_jax.report.page import distances, figure, gallery, subheading, thumbnail
from facenet_jax.report.tables import PAIR_PROTOCOLS, finest

_MOST_PAIRS = 40


def figure_1(everybody: Sequence[Measured], images: bool) -> list[str]:
    """Figure 1: squared distances between pictures of a few people under whatever pose and light they were taken."""
    parts = []
    for one in everybody:
        for protocol in ("photos", "holdout"):
            result = one.result(protocol)
            few = (result or {}).get("few_faces")
            if not few:
                continue
            roots = [Path(part) for part in one.documents[protocol][0]["data"].split(", ")]
            shown = [_thumbnail(roots, key) if images else "" for key in few["keys"]]
            rate = finest(result)
            threshold = None if rate is None else rate["threshold"]
            square = distances(few["keys"], shown, few["people"], few["distances"], threshold)
            if square:
                said = f", threshold {threshold:.3f} (FAR {rate['far']:g})" if rate and threshold is not None else ""
                parts.append(subheading(f"{one.name}, {protocol}{said}") + square)
            break
    return parts


def figure_4(everybody: Sequence[Measured]) -> str:
    """Figure 4: accuracy against multiply-adds."""
    points = []
    for one in everybody:
        result = one.result("photos") or one.result("holdout")
        adds = one.about.get("multiply_adds")
        rate = finest(result)
        if adds and rate is not None:
            name = f"{one.name} at FAR {rate['far']:g}"
            points.append((name, float(adds), float(rate["val"]), rate.get("standard_error")))
    if not points:
        return ""
    return figure(
        multiply_adds_figure(points, "VAL"),
        "VAL at the smallest FAR that the pairs resolve, 0.001 or more; point at a mark to read it.",
    )


def figure_5(everybody: Sequence[Measured]) -> str:
    """Figure 5: ROC curves, one figure a protocol."""
    parts = []
    for protocol in ("holdout", *PAIR_PROTOCOLS):
        curves = {}
        for one in everybody:
            result = one.result(protocol)
            if result is not None and result.get("roc"):
                several = result["roc"] if isinstance(result["roc"], list) else [result["roc"]]
                curves[one.name] = [(curve["far"], curve["val"]) for curve in several]
        if curves:
            parts.append(figure(roc_curves(curves), f"{protocol}: point along a curve to read it."))
    return "\n".join(parts)


def histograms(everybody: Sequence[Measured]) -> list[str]:
    """Distances of same and different pairs."""
    parts = []
    for one in everybody:
        for protocol in PAIR_PROTOCOLS:
            result = one.result(protocol)
            if result is None or "histogram" not in result:
                continue
            marks = [(rate["far"], rate["threshold"]) for rate in result["rates"] if rate["threshold"] is not None]
            svg = distance_histogram(result["histogram"]["same"], result["histogram"]["different"], marks)
            parts.append(figure(svg, f"{one.name}, {protocol}: shares of pairs by squared distance; thresholds."))
    return parts


def wrong_pairs(everybody: Sequence[Measured], images: bool) -> list[str]:
    """Figure 6: false accepts, then false rejects, of each embedder."""
    parts = []
    for one in everybody:
        for protocol in ("holdout", *PAIR_PROTOCOLS):
            result = one.result(protocol)
            if result is None or "wrong" not in result:
                continue
            roots = [Path(part) for part in one.documents[protocol][0]["data"].split(", ")]
            for kind, words in (("false_accepts", "False accepts"), ("false_rejects", "False rejects")):
                pairs = result["wrong"][kind][:_MOST_PAIRS]
                groups = []
                for first, second, distance in pairs:
                    shown = [_thumbnail(roots, key) for key in (first, second)] if images else []
                    groups.append(([s for s in shown if s], f"{first} / {second}: {distance:.3f}"))
                if groups:
                    parts.append(subheading(f"{words}: {one.name}, {protocol}") + gallery(groups))
    return parts


def cluster_gallery(everybody: Sequence[Measured], images: bool) -> list[str]:
    """Figure 7: the largest clusters."""
    parts = []
    for one in everybody:
        result = one.result("cluster")
        if result is None or not images:
            continue
        roots = [Path(one.documents["cluster"][0]["data"])]
        groups = []
        for keys in result["clusters_shown"]:
            shown = [s for key in keys[:24] if (s := _thumbnail(roots, key))]
            people = len({key.split("/")[0] for key in keys})
            groups.append((shown, f"{len(keys)} faces shown of {people} identities"))
        parts.append(subheading(one.name) + gallery(groups))
    return parts


def sweep_picture(folder: Path) -> str:
    """The picture that a sweep ended with."""
    try:
        content = base64.b64encode((folder / "sweep.png").read_bytes()).decode()
    except OSError:
        return ""
    return figure(f'<img alt="" src="data:image/png;base64,{content}">', "VAL of each point, with standard errors.")


def training(collected: Collected) -> str:
    """The course of training."""
    if not collected.histories:
        return ""
    return figure(history_figure(collected.histories), "The loss of each run.")


def _thumbnail(roots: Sequence[Path], key: str) -> str:
    """An image of the viewer's as a data URI, small; empty where it cannot be read."""
    return next((shown for root in roots if (shown := thumbnail(root / key))), "")
