"""What was measured -> the page: the paper's tables and figures, with its figures beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facenet_jax.evaluation import paper
from facenet_jax.evaluation.quality import IMAGE_SIZES, JPEG_QUALITIES
from facenet_jax.evaluation.report.collect import YARDSTICK, Collected, Measured
from facenet_jax.evaluation.report.figures import (
    distance_histogram,
    history_figure,
    multiply_adds_figure,
    roc_curves,
)
from facenet_jax.evaluation.report.page import Cell, figure, gallery, note, page, section, subheading, table, thumbnail

_FAR = 1e-3
_VALS = ("VAL at FAR 0.001", "VAL at FAR 0.01")
_PAIR_PROTOCOLS = ("photos", "lfw", "lfw-view1", "pairs", "ytf")
_MOST_PAIRS = 40


def build(collected: Collected, title: str, images: bool = True) -> str:
    """The whole page.

    Args:
      collected: what it shows.
      title: of it.
      images: whether wrong pairs and clusters are shown by the viewer's own images, where these can be read.
    """
    everybody = collected.embedders
    sections = [
        section("What was trained on what", _overview(everybody)),
        section(
            "Table 3: validation rate on the hold-out",
            table(("embedder", "network", *_VALS, "the paper's", "on"), _table_3(everybody)),
            note(
                "Mean and standard error over splits of identities; the paper's column is what it reports for this "
                "network on its own data. A FAR that the pairs cannot resolve says how many it needs."
            ),
        ),
        _table_4(everybody),
        section(
            "Table 5: size of the embedding",
            table(
                ("embedder", "dimensions", "form", "bytes", *_VALS, "the paper's"),
                _table_5(everybody),
            ),
        ),
        section(
            "Table 6: amount of training data",
            table(("embedder", "training faces", "identities", "VAL", "on"), _table_6(everybody)),
            note(
                "The paper's, on personal photographs: "
                + ", ".join(f"{n / 1e6:g}M faces {100 * v:.1f} %" for n, v in paper.TABLE_6.items())
            ),
        ),
        section(
            "Labelled Faces in the Wild, YouTube Faces and other pairs",
            table(
                ("embedder", "protocol", "crop", "accuracy", "equal error rate", "area", "on"), _accuracies(everybody)
            ),
            note(
                "The paper's: LFW 98.87 % ± 0.15 with a fixed centre crop, 99.63 % ± 0.09 with a face detector; "
                "YouTube Faces 95.12 % ± 0.39 with 100 frames, 95.18 % with 1,000."
            ),
        ),
        section("Identification and clusters", _identification(everybody), _clusters(everybody)),
        section("Comparisons on the same pairs", _comparisons(collected)),
        section("Figure 4: accuracy against multiply-adds", _figure_4(everybody)),
        section("Figure 5: ROC curves", _figure_5(everybody)),
        section("Distances of pairs", *_histograms(everybody)),
        section("Figure 6: wrong pairs", *_wrong_pairs(everybody, images)),
        section("Figure 7: clusters", *_cluster_gallery(everybody, images)),
        section("Worst identities", *_worst(everybody)),
        section("Training", _training(collected)),
        section("Left out", _left_out(collected)),
    ]
    return page(title, [one for one in sections if one])


def _overview(everybody: Sequence[Measured]) -> str:
    rows = []
    for one in everybody:
        about, config = one.about, one.about.get("config", {})
        size = about.get("input_size")
        training = about.get("training", {})
        faces = training.get("faces")
        data = training.get("data", config.get("data.path", "unknown to us"))
        adds, parameters = about.get("multiply_adds"), about.get("parameters")
        rows.append(
            [
                Cell(one.name, title="the yardstick, 99.4 % on LFW by its authors" if one.name == YARDSTICK else ""),
                about.get("network", about.get("kind", "")),
                "x".join(map(str, size)) if size else "",
                Cell(str(about.get("embedding_size", "")), about.get("embedding_size")),
                Cell(f"{parameters:,}", parameters) if parameters else "",
                Cell(f"{adds:,}", adds) if adds else "",
                Cell(f"{about['step']:,}", about["step"]) if "step" in about else "",
                str(data),
                Cell(f"{faces:,}", faces) if faces else "",
            ]
        )
    heads = ("embedder", "network", "input", "dimensions", "parameters", "multiply-adds", "step", "data", "faces")
    return table(heads, rows)


def _rate(result: dict[str, Any] | None, far: float) -> dict[str, Any] | None:
    return next((rate for rate in (result or {}).get("rates", []) if abs(rate["far"] - far) < 1e-12), None)


def _finest(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """The rate at the smallest FAR, from the paper's on, that the pairs resolve."""
    known = [rate for rate in (result or {}).get("rates", []) if rate["val"] is not None and rate["far"] >= _FAR]
    return min(known, key=lambda rate: float(rate["far"]), default=None)


def _val(result: dict[str, Any] | None, far: float) -> Cell:
    rate = _rate(result, far)
    if rate is None:
        return Cell("")
    if rate["val"] is None:
        return Cell("unresolved", title=f"needs {rate['pairs_needed']:,} different pairs")
    error = rate.get("standard_error")
    text = f"{100 * rate['val']:.1f} %" + (f" ± {100 * error:.1f}" if error is not None else "")
    threshold = "none" if rate["threshold"] is None else f"{rate['threshold']:.4f}"
    return Cell(text, rate["val"], f"threshold {threshold}, FAR reached {rate['far_reached']:.2g}")


def _table_3(everybody: Sequence[Measured]) -> list[list[Cell | str]]:
    rows: list[list[Cell | str]] = []
    for one in everybody:
        result = one.result("holdout")
        if result is None:
            continue
        name = str(one.about.get("network", ""))
        printed = paper.TABLE_3.get(name)
        document = one.documents["holdout"][0]
        pairs = f"{result['same_pairs']:,} same and {result['different_pairs']:,} different pairs"
        rows.append(
            [
                one.name,
                name,
                _val(result, _FAR),
                _val(result, 1e-2),
                Cell(f"{100 * printed[0]:.1f} % ± {100 * printed[1]:.1f}", printed[0]) if printed else "",
                Cell(document["data"], title=pairs),
            ]
        )
    return rows


def _table_4(everybody: Sequence[Measured]) -> str:
    measured = [(one.name, result) for one in everybody if (result := one.result("robustness"))]
    if not measured:
        return ""
    parts = []
    for kind, head, grid in (
        ("jpeg_quality", "JPEG quality", JPEG_QUALITIES),
        ("image_pixels", "pixels", IMAGE_SIZES),
    ):
        rows: list[list[Cell | str]] = []
        for value, printed in grid.items():
            cells: list[Cell | str] = [Cell(f"{value:,}", value), Cell(f"{printed:.1f} %", printed)]
            for _, result in measured:
                val = result[kind][str(value)]["val"]
                cells.append(Cell("unresolved") if val is None else Cell(f"{100 * val:.1f} %", val))
            rows.append(cells)
        parts.append(table((head, "the paper's NN1", *(name for name, _ in measured)), rows))
    fars = ", ".join(f"{far:g}" for far in sorted({result["far"] for _, result in measured}))
    return section("Table 4: image quality", *parts, note(f"VAL at FAR {fars} on the first split of the hold-out."))


def _table_5(everybody: Sequence[Measured]) -> list[list[Cell | str]]:
    rows: list[list[Cell | str]] = []
    for one in everybody:
        result = one.result("compact")
        if result is None:
            continue
        size = int(one.about["embedding_size"])
        printed = paper.TABLE_5.get(size)
        for form, width in (("float32", 4), ("int8", 1)):
            rows.append(
                [
                    one.name,
                    Cell(str(size), size),
                    form,
                    Cell(f"{size * width:,}", size * width),
                    _val(result[form], _FAR),
                    _val(result[form], 1e-2),
                    Cell(f"{100 * printed[0]:.1f} % ± {100 * printed[1]:.1f}", printed[0]) if printed else "",
                ]
            )
    return rows


def _table_6(everybody: Sequence[Measured]) -> list[list[Cell | str]]:
    rows: list[list[Cell | str]] = []
    for one in everybody:
        training = one.about.get("training")
        protocol = next((name for name in ("photos", "holdout") if one.result(name)), None)
        if not training or protocol is None:
            continue
        result = one.result(protocol)
        finest = _finest(result)
        far = _FAR if finest is None else finest["far"]
        rows.append(
            [
                one.name,
                Cell(f"{training['faces']:,}", training["faces"]),
                Cell(f"{training['identities']:,}", training["identities"]),
                _val(result, far),
                f"{protocol} at FAR {far:g}",
            ]
        )
    return rows


def _accuracies(everybody: Sequence[Measured]) -> list[list[Cell | str]]:
    rows: list[list[Cell | str]] = []
    for one in everybody:
        for protocol in _PAIR_PROTOCOLS:
            result = one.result(protocol)
            if result is None:
                continue
            document = one.documents[protocol][0]
            accuracy = result.get("accuracy")
            text = "" if accuracy is None else f"{100 * accuracy:.2f} % ± {100 * result['standard_error']:.2f}"
            rate, area = result["equal_error_rate"], result["area"]
            pairs = f"{result['same_pairs']:,} same, {result['different_pairs']:,} different"
            rows.append(
                [
                    one.name,
                    protocol,
                    document["crop"],
                    Cell(text, accuracy),
                    Cell(f"{100 * rate:.2f} %", rate) if rate is not None else "",
                    Cell(f"{area:.5f}", area) if area is not None else "",
                    Cell(
                        document["data"],
                        title=pairs,
                    ),
                ]
            )
    return rows


def _identification(everybody: Sequence[Measured]) -> str:
    rows: list[list[Cell | str]] = []
    for one in everybody:
        result = one.result("identify")
        if result is None:
            continue
        for rate in result["open_set"]:
            found = Cell("unresolved") if rate["rate"] is None else Cell(f"{100 * rate['rate']:.1f} %", rate["rate"])
            rows.append(
                [
                    one.name,
                    Cell(f"{100 * result['rank1']:.1f} %", result["rank1"], f"{result['probes']:,} probes"),
                    found,
                    Cell(f"{rate['false_alarm_rate']:g}", rate["false_alarm_rate"]),
                ]
            )
    return table(("embedder", "rank-1", "identified", "at false-alarm rate"), rows)


def _clusters(everybody: Sequence[Measured]) -> str:
    rows: list[list[Cell | str]] = []
    for one in everybody:
        result = one.result("cluster")
        if result is not None:
            rows.append(
                [
                    one.name,
                    Cell(f"{100 * result['bcubed_f']:.1f} %", result["bcubed_f"]),
                    Cell(f"{100 * result['pairwise_f']:.1f} %", result["pairwise_f"]),
                    Cell(f"{result['clusters']:,}", result["clusters"]),
                    Cell(f"{result['identities']:,}", result["identities"]),
                    Cell(f"{result['threshold']:.4f}", result["threshold"]),
                ]
            )
    return table(("embedder", "B-cubed F", "pairwise F", "clusters", "identities", "threshold"), rows)


def _comparisons(collected: Collected) -> str:
    rows: list[list[Cell | str]] = []
    for protocol, data, one in collected.comparisons:
        ends = "" if one["low"] is None else f"{100 * one['low']:+.1f} to {100 * one['high']:+.1f}"
        rows.append(
            [
                one["second"],
                one["first"],
                one["what"],
                Cell(f"{100 * one['difference']:+.2f}", one["difference"]),
                ends,
                Cell(f"{one['p']:.3g}", one["p"], one["test"]),
                Cell(protocol, title=data),
            ]
        )
    return table(("embedder", "against", "what", "difference, points", "95 %", "p", "protocol"), rows)


def _figure_4(everybody: Sequence[Measured]) -> str:
    points = []
    for one in everybody:
        result = one.result("photos") or one.result("holdout")
        adds = one.about.get("multiply_adds")
        rate = _finest(result)
        if adds and rate is not None:
            name = f"{one.name} at FAR {rate['far']:g}"
            points.append((name, float(adds), float(rate["val"]), rate.get("standard_error")))
    if not points:
        return ""
    return figure(
        multiply_adds_figure(points, "VAL"),
        "VAL at the smallest FAR that the pairs resolve, 0.001 or more; point at a mark to read it.",
    )


def _figure_5(everybody: Sequence[Measured]) -> str:
    parts = []
    for protocol in ("holdout", *_PAIR_PROTOCOLS):
        curves = {}
        for one in everybody:
            result = one.result(protocol)
            if result is not None and result.get("roc"):
                several = result["roc"] if isinstance(result["roc"], list) else [result["roc"]]
                curves[one.name] = [(curve["far"], curve["val"]) for curve in several]
        if curves:
            parts.append(figure(roc_curves(curves), f"{protocol}: point along a curve to read it."))
    return "\n".join(parts)


def _histograms(everybody: Sequence[Measured]) -> list[str]:
    parts = []
    for one in everybody:
        for protocol in _PAIR_PROTOCOLS:
            result = one.result(protocol)
            if result is None or "histogram" not in result:
                continue
            marks = [(rate["far"], rate["threshold"]) for rate in result["rates"] if rate["threshold"] is not None]
            svg = distance_histogram(result["histogram"]["same"], result["histogram"]["different"], marks)
            parts.append(figure(svg, f"{one.name}, {protocol}: shares of pairs by squared distance; thresholds."))
    return parts


def _wrong_pairs(everybody: Sequence[Measured], images: bool) -> list[str]:
    parts = []
    for one in everybody:
        for protocol in ("holdout", *_PAIR_PROTOCOLS):
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


def _cluster_gallery(everybody: Sequence[Measured], images: bool) -> list[str]:
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


def _worst(everybody: Sequence[Measured]) -> list[str]:
    parts = []
    for one in everybody:
        for protocol in ("holdout", *_PAIR_PROTOCOLS):
            result = one.result(protocol)
            people = [] if result is None else result.get("wrong", {}).get("worst_identities", [])[:20]
            rows = [
                [
                    person["name"],
                    Cell(f"{person['rejected']:,} of {person['same_pairs']:,}", person["rejected"]),
                    Cell(f"{person['false_accepts']:,}", person["false_accepts"]),
                ]
                for person in people
            ]
            if rows:
                heads = ("identity", "same pairs rejected", "false accepts")
                parts.append(subheading(f"{one.name}, {protocol}") + table(heads, rows))
    return parts


def _training(collected: Collected) -> str:
    if not collected.histories:
        return ""
    return figure(history_figure(collected.histories), "The loss of each run.")


def _left_out(collected: Collected) -> str:
    rows: list[list[Cell | str]] = []
    for protocol, data, names, kept in collected.left_out:
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        rows.append([protocol, data, "kept" if kept else "left out", Cell(f"{len(names)}", len(names)), shown])
    return table(("protocol", "on", "identities trained on too", "how many", "names"), rows)


def _thumbnail(roots: Sequence[Path], key: str) -> str:
    """An image of the viewer's as a data URI, small; empty where it cannot be read."""
    return next((shown for root in roots if (shown := thumbnail(root / key))), "")
