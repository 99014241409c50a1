"""What was measured -> the report's tables, with the paper's numbers in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facenet_jax.evaluation import paper
from facenet_jax.evaluation.paper import IMAGE_SIZES, JPEG_QUALITIES
from facenet_jax.report.collect import FAR, PAIR_PROTOCOLS, YARDSTICK, Collected, Measured, finest
from facenet_jax.report.page import Cell, Table

_VALS = ("VAL at FAR 0.001", "VAL at FAR 0.01")


def overview(everybody: Sequence[Measured]) -> Table:
    """What was trained on what."""
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
    return Table(heads, rows)


def table_3(everybody: Sequence[Measured]) -> Table:
    """Table 3: VAL on the hold-out."""
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
                _val(result, FAR),
                _val(result, 1e-2),
                Cell(f"{100 * printed[0]:.1f} % ± {100 * printed[1]:.1f}", printed[0]) if printed else "",
                Cell(document["data"], title=pairs),
            ]
        )
    return Table(("embedder", "network", *_VALS, "the paper's", "on"), rows)


def table_4(everybody: Sequence[Measured]) -> list[Table]:
    """Table 4: VAL by JPEG quality, and by pixels; none where neither was measured."""
    measured = [(one.name, result) for one in everybody if (result := one.result("robustness"))]
    if not measured:
        return []
    tables = []
    for kind, head, grid in (("jpeg_quality", "JPEG quality", JPEG_QUALITIES), ("image_pixels", "pixels", IMAGE_SIZES)):
        rows: list[list[Cell | str]] = []
        for value, printed in grid.items():
            cells: list[Cell | str] = [Cell(f"{value:,}", value), Cell(f"{printed:.1f} %", printed)]
            for _, result in measured:
                val = result[kind][str(value)]["val"]
                cells.append(Cell("unresolved") if val is None else Cell(f"{100 * val:.1f} %", val))
            rows.append(cells)
        tables.append(Table((head, "the paper's NN1", *(name for name, _ in measured)), rows))
    return tables


def table_4_fars(everybody: Sequence[Measured]) -> str:
    """The false accept rates of Table 4, in words."""
    fars = {result["far"] for one in everybody if (result := one.result("robustness"))}
    return ", ".join(f"{far:g}" for far in sorted(fars))


def table_5(everybody: Sequence[Measured]) -> Table:
    """Table 5: VAL by size and form of the embedding."""
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
                    _val(result[form], FAR),
                    _val(result[form], 1e-2),
                    Cell(f"{100 * printed[0]:.1f} % ± {100 * printed[1]:.1f}", printed[0]) if printed else "",
                ]
            )
    return Table(("embedder", "dimensions", "form", "bytes", *_VALS, "the paper's"), rows)


def table_6(everybody: Sequence[Measured]) -> Table:
    """Table 6: VAL by the amount of training data."""
    rows: list[list[Cell | str]] = []
    for one in everybody:
        training = one.about.get("training")
        protocol = next((name for name in ("photos", "holdout") if one.result(name)), None)
        if not training or protocol is None:
            continue
        result = one.result(protocol)
        smallest = finest(result)
        far = FAR if smallest is None else smallest["far"]
        rows.append(
            [
                one.name,
                Cell(f"{training['faces']:,}", training["faces"]),
                Cell(f"{training['identities']:,}", training["identities"]),
                _val(result, far),
                f"{protocol} at FAR {far:g}",
            ]
        )
    return Table(("embedder", "training faces", "identities", "VAL", "on"), rows)


def accuracies(everybody: Sequence[Measured]) -> Table:
    """Accuracies on listed pairs and photographs (sections 4.3, 5.6 and 5.7)."""
    rows: list[list[Cell | str]] = []
    for one in everybody:
        for protocol in PAIR_PROTOCOLS:
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
    return Table(("embedder", "protocol", "crop", "accuracy", "equal error rate", "area", "on"), rows)


def identification(everybody: Sequence[Measured]) -> Table:
    """Rank-1 and open-set rates."""
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
    return Table(("embedder", "rank-1", "identified", "at false-alarm rate"), rows)


def clusters(everybody: Sequence[Measured]) -> Table:
    """How well faces are grouped."""
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
    return Table(("embedder", "B-cubed F", "pairwise F", "clusters", "identities", "threshold"), rows)


def comparisons(collected: Collected) -> Table:
    """Paired tests."""
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
    return Table(("embedder", "against", "what", "difference, points", "95 %", "p", "protocol"), rows)


def sweep(content: dict[str, Any]) -> Table:
    """The points of a sweep."""
    fars = sorted({rate["far"] for point in content["points"] for rate in point["rates"]}, reverse=True)
    rows: list[list[Cell | str]] = []
    for point in content["points"]:
        printed = content["paper"].get(point["name"])
        rows.append(
            [
                point["name"],
                *(_val(point, far) for far in fars),
                Cell(f"{100 * printed[0]:.1f} % ± {100 * printed[1]:.1f}", printed[0]) if printed else "",
                point["state"],
            ]
        )
    return Table(("point", *(f"VAL at FAR {far:g}" for far in fars), "the paper's at FAR 0.001", "state"), rows)


def worst(everybody: Sequence[Measured]) -> list[tuple[str, Table]]:
    """The identities most often judged wrong, each table under a heading."""
    parts = []
    for one in everybody:
        for protocol in ("holdout", *PAIR_PROTOCOLS):
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
                parts.append((f"{one.name}, {protocol}", Table(heads, rows)))
    return parts


def left_out(collected: Collected) -> Table:
    """Identities left out because they were trained on."""
    rows: list[list[Cell | str]] = []
    for protocol, data, names, kept in collected.left_out:
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        rows.append([protocol, data, "kept" if kept else "left out", Cell(f"{len(names)}", len(names)), shown])
    return Table(("protocol", "on", "identities trained on too", "how many", "names"), rows)


def _rate(result: dict[str, Any] | None, far: float) -> dict[str, Any] | None:
    return next((rate for rate in (result or {}).get("rates", []) if abs(rate["far"] - far) < 1e-12), None)


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
