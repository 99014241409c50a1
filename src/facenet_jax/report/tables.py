"""Makes the report's tables, with the paper's figures in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from facenet_jax.evaluation import paper
from facenet_jax.report.collect import FAR, PAIR_PROTOCOLS, YARDSTICK, Collected, Measured, finest, flips, results
from facenet_jax.report.page import Cell, Row, Table

_VALS = ("VAL at FAR 0.001", "VAL at FAR 0.01")


def overview(embedders: Sequence[Measured]) -> Table:
    """The embedders and their training data."""
    rows: list[Row] = []
    for one in embedders:
        about, training = one.about, one.about.get("training", {})
        size = about.get("input_size")
        rows.append(
            [
                Cell(one.name, title="pretrained, 99.4 % on LFW by its authors" if one.name == YARDSTICK else ""),
                about.get("network", about.get("kind", "")),
                "x".join(map(str, size)) if size else "",
                Cell(str(about.get("embedding_size", "")), about.get("embedding_size")),
                _count(about.get("parameters")),
                _count(about.get("multiply_adds")),
                _count(about.get("step")),
                str(training.get("data", about.get("config", {}).get("data.path", "unknown"))),
                _count(training.get("faces")),
            ]
        )
    heads = ("embedder", "network", "input", "dimensions", "parameters", "multiply-adds", "step", "data", "faces")
    return Table(heads, rows)


def table_3(embedders: Sequence[Measured]) -> Table:
    """Table 3: VAL on the hold-out; if a FAR is unresolved, also VAL at the smallest FAR, area and equal error rate."""
    rows: list[Row] = []
    measured = list(results(embedders, "holdout"))
    few = any(rate["val"] is None for _, _, result in measured for rate in result["rates"])
    for one, _, result in measured:
        network = str(one.about.get("network", ""))
        rows.append(
            [
                one.name,
                network,
                _val(result, FAR),
                _val(result, 1e-2),
                *(_of_few(result) if few else ()),
                _printed(paper.TABLE_3.get(network)),
                Cell(one.documents["holdout"][0]["data"], title=_pairs(result)),
            ]
        )
    heads = ("at the smallest FAR", "area", "equal error") if few else ()
    return Table(("embedder", "network", *_VALS, *heads, "the paper's", "on"), rows)


def table_4(embedders: Sequence[Measured]) -> list[Table]:
    """Table 4: VAL by JPEG quality, and by pixels; empty if neither was measured."""
    measured = [(one.name, result) for one, _, result in results(embedders, "robustness")]
    if not measured:
        return []
    tables = []
    for kind, head, grid in (
        ("jpeg_quality", "JPEG quality", paper.JPEG_QUALITIES),
        ("image_pixels", "pixels", paper.IMAGE_SIZES),
    ):
        rows: list[Row] = []
        for value, printed in grid.items():
            vals = [result[kind][str(value)]["val"] for _, result in measured]
            rows.append([_count(value), Cell(f"{printed:.1f} %", printed), *(_resolved(val) for val in vals)])
        tables.append(Table((head, "the paper's NN1", *(name for name, _ in measured)), rows))
    return tables


def table_4_fars(embedders: Sequence[Measured]) -> str:
    """The false accept rates of Table 4, in words."""
    return ", ".join(f"{far:g}" for far in sorted({result["far"] for _, _, result in results(embedders, "robustness")}))


def table_5(embedders: Sequence[Measured]) -> Table:
    """Table 5: VAL by size and form of the embedding."""
    rows: list[Row] = []
    for one, _, result in results(embedders, "compact"):
        size = int(one.about["embedding_size"])
        for form, width in (("float32", 4), ("int8", 1)):
            vals = _val(result[form], FAR), _val(result[form], 1e-2)
            rows.append([one.name, _count(size), form, _count(size * width), *vals, _printed(paper.TABLE_5.get(size))])
    return Table(("embedder", "dimensions", "form", "bytes", *_VALS, "the paper's"), rows)


def table_6(embedders: Sequence[Measured]) -> Table:
    """Table 6: VAL by the amount of training data."""
    rows: list[Row] = []
    for one in embedders:
        training = one.about.get("training")
        protocol = next((name for name in ("photos", "holdout") if one.result(name)), None)
        if not training or protocol is None:
            continue
        result = one.result(protocol)
        smallest = finest(result)
        far = FAR if smallest is None else smallest["far"]
        counts = _count(training["faces"]), _count(training["identities"])
        rows.append([one.name, *counts, _val(result, far), f"{protocol} at FAR {far:g}"])
    return Table(("embedder", "training faces", "identities", "VAL", "on"), rows)


def accuracies(embedders: Sequence[Measured]) -> Table:
    """Accuracies on listed pairs and photographs (sections 4.3, 5.6 and 5.7)."""
    rows: list[Row] = []
    for one, protocol, result in results(embedders, *PAIR_PROTOCOLS):
        document = one.documents[protocol][0]
        accuracy, rate, area = result.get("accuracy"), result["equal_error_rate"], result["area"]
        text = "" if accuracy is None else f"{100 * accuracy:.2f} % ± {100 * result['standard_error']:.2f}"
        rows.append(
            [
                one.name,
                protocol,
                document["crop"],
                Cell(text, accuracy),
                Cell(f"{100 * rate:.2f} %", rate) if rate is not None else "",
                Cell(f"{area:.5f}", area) if area is not None else "",
                Cell(document["data"], title=_pairs(result)),
            ]
        )
    return Table(("embedder", "protocol", "crop", "accuracy", "equal error rate", "area", "on"), rows)


def identification(embedders: Sequence[Measured]) -> Table:
    """Rank-1 and open-set rates."""
    rows: list[Row] = []
    for one, _, result in results(embedders, "identify"):
        first = Cell(f"{100 * result['rank1']:.1f} %", result["rank1"], f"{result['probes']:,} probes")
        for rate in result["open_set"]:
            alarms = rate["false_alarm_rate"]
            rows.append([one.name, first, _resolved(rate["rate"]), Cell(f"{alarms:g}", alarms)])
    return Table(("embedder", "rank-1", "identified", "at false-alarm rate"), rows)


def mirror_images(embedders: Sequence[Measured]) -> Table:
    """The effect of the mean with the mirror image, of networks that were measured with and without it."""
    rows: list[Row] = []
    for single, flipped, protocol in flips(embedders):
        after = _shares(flipped.result(protocol))
        for what, before in _shares(single.result(protocol)).items():
            if what in after:
                more = after[what] - before
                difference = Cell(f"{100 * more:+.2f}", more)
                rows.append([single.name, protocol, what, _resolved(before), _resolved(after[what]), difference])
    return Table(("embedder", "protocol", "figure", "single", "with flip", "difference, points"), rows)


def compatibility(old: Measured, both: Measured, new: Measured, protocols: Sequence[str]) -> Table:
    """Shares of an old embedder, a new one against the old, and the new one on the same faces, with thresholds."""
    rows: list[Row] = []
    for protocol in protocols:
        three = [one.result(protocol) for one in (old, both, new)]
        thresholds = [_thresholds(result) for result in three]
        shares = [_shares(result) for result in three]
        for what in shares[0]:
            if all(what in one for one in shares):
                said = [f", {at[what]:.4f}" if at.get(what) is not None else "" for at in thresholds]
                cells = [Cell(f"{100 * s[what]:.1f} %{more}", s[what]) for s, more in zip(shares, said, strict=True)]
                rows.append([protocol, what, *cells])
    return Table(("protocol", "figure", "old", "new against old", "new"), rows)


def clusters(embedders: Sequence[Measured]) -> Table:
    """Scores of clusterings."""
    rows: list[Row] = [
        [
            one.name,
            _resolved(result["bcubed_f"]),
            _resolved(result["pairwise_f"]),
            _count(result["clusters"]),
            _count(result["identities"]),
            Cell(f"{result['threshold']:.4f}", result["threshold"]),
        ]
        for one, _, result in results(embedders, "cluster")
    ]
    return Table(
        ("embedder", "B-cubed F", "pairwise F", "clusters", "identities", "threshold (squared distance)"), rows
    )


def comparisons(collected: Collected) -> Table:
    """Paired tests of embedders."""
    rows: list[Row] = []
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
    rows: list[Row] = []
    for point in content["points"]:
        vals = [_val(point, far) for far in fars]
        rows.append([point["name"], *vals, _printed(content["paper"].get(point["name"])), point["state"]])
    return Table(("point", *(f"VAL at FAR {far:g}" for far in fars), "the paper's at FAR 0.001", "state"), rows)


def worst(embedders: Sequence[Measured]) -> list[tuple[str, Table]]:
    """The identities most often judged wrong, each table under a heading."""
    tables = []
    for one, protocol, result in results(embedders, "holdout", *PAIR_PROTOCOLS):
        rows: list[Row] = [
            [
                person["name"],
                Cell(f"{person['rejected']:,} of {person['same_pairs']:,}", person["rejected"]),
                _count(person["false_accepts"]),
            ]
            for person in result.get("wrong", {}).get("worst_identities", [])[:20]
        ]
        if rows:
            heads = ("identity", "same pairs rejected", "false accepts")
            tables.append((f"{one.name}, {protocol}", Table(heads, rows)))
    return tables


def left_out(collected: Collected) -> Table:
    """Identities left out because they were trained on."""
    rows: list[Row] = []
    for protocol, data, names, kept in collected.left_out:
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        rows.append([protocol, data, "kept" if kept else "left out", _count(len(names)), shown])
    return Table(("protocol", "on", "identities trained on too", "how many", "names"), rows)


def _count(number: int | None) -> Cell:
    return Cell("") if number is None else Cell(f"{number:,}", number)


def _shares(result: dict[str, Any] | None) -> dict[str, float]:
    """The resolved figures of a result that are shares, the higher the better, by their names."""
    result = result or {}
    named = (("accuracy", "accuracy"), ("rank1", "rank-1"), ("bcubed_f", "B-cubed F"))
    shares = {words: result.get(key) for key, words in named}
    shares |= {words: rate.get("val", rate.get("rate")) for words, rate in _rates(result)}
    return {words: share for words, share in shares.items() if share is not None}


def _thresholds(result: dict[str, Any] | None) -> dict[str, float | None]:
    """The squared distance at which each share was reached, by the names of `_shares`."""
    return {words: rate["threshold"] for words, rate in _rates(result or {})}


def _rates(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The rates of a result that have thresholds, with their names."""
    identified = "identified at false-alarm rate"
    return [
        *((f"VAL at FAR {rate['far']:g}", rate) for rate in result.get("rates", [])),
        *((f"{identified} {rate['false_alarm_rate']:g}", rate) for rate in result.get("open_set", [])),
    ]


def _resolved(share: float | None) -> Cell:
    return Cell("unresolved") if share is None else Cell(f"{100 * share:.1f} %", share)


def _printed(value: Sequence[float] | None) -> Cell:
    """A VAL that the paper prints, with its standard error."""
    return Cell("") if value is None else Cell(f"{100 * value[0]:.1f} % ± {100 * value[1]:.1f}", value[0])


def _pairs(result: dict[str, Any]) -> str:
    return f"{result['same_pairs']:,} same and {result['different_pairs']:,} different pairs"


def _of_few(result: dict[str, Any]) -> list[Cell]:
    """VAL at the smallest FAR that is resolved, the area and the equal error rate, means over the splits."""
    rate = finest(result)
    val = None if rate is None else _val(result, rate["far"])
    cells = [Cell("none") if rate is None or val is None else replace(val, text=f"{val.text} at {rate['far']:g}")]
    for key, form in (("area", "{:.5f}"), ("equal_error_rate", "{:.2%}")):
        known = [split[key] for split in result["splits"] if split.get(key) is not None]
        mean = sum(known) / len(known) if known else None
        cells.append(Cell("") if mean is None else Cell(form.format(mean).replace("%", " %"), mean))
    return cells


def _val(result: dict[str, Any] | None, far: float) -> Cell:
    rate = next((rate for rate in (result or {}).get("rates", []) if abs(rate["far"] - far) < 1e-12), None)
    if rate is None:
        return Cell("")
    if rate["val"] is None:
        return Cell("unresolved", title=f"needs {rate['pairs_needed']:,} different pairs")
    error = rate.get("standard_error")
    text = f"{100 * rate['val']:.1f} %" + (f" ± {100 * error:.1f}" if error is not None else "")
    threshold = "none" if rate["threshold"] is None else f"{rate['threshold']:.4f}"
    return Cell(text, rate["val"], f"threshold (squared distance) {threshold}, FAR reached {rate['far_reached']:.2g}")
