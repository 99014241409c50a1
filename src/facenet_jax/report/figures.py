"""Draws the report's figures as SVG by matplotlib, with values shown on hover.

A browser shows an SVG element's title while the pointer rests on it, without any script; each mark is given an
identifier when it is drawn, and its title when the file is written.
"""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG

from facenet_jax.evaluation.paper import MULTIPLY_ADDS, TABLE_3
from facenet_jax.evaluation.plot_style import (
    COLOURS,
    INK,
    draw_histogram,
    mean_curve,
    one_panel,
    roc_axes,
    share_axis,
    short_name,
)
from facenet_jax.report.collect import PAIR_PROTOCOLS, Measured, finest, results
from facenet_jax.report.page import Figure

_SVG = "http://www.w3.org/2000/svg"
# Marks along a curve that show its values.
_MARKS = 30
# Inches; the text stays readable on the screen of a phone.
_WIDTH = 5.6


class _Drawing:
    """A figure of one panel whose marks have titles."""

    def __init__(self, height: float) -> None:
        self.figure, self.axes = one_panel(_WIDTH, height)
        self.titles: dict[str, str] = {}
        self._numbers = itertools.count()

    def mark(self, x: float, y: float, title: str, **style: Any) -> None:
        """Adds a mark with a title; invisible unless a style is given."""
        name = f"mark{next(self._numbers)}"
        self.titles[name] = title
        look: dict[str, Any] = {"alpha": 0.001, "markersize": 9, "color": INK} | style
        self.axes.plot([x], [y], "o", gid=name, **look)

    def svg(self) -> Markup:
        """The SVG element, with a legend below where lines or bars have names."""
        handles, labels = self.axes.get_legend_handles_labels()
        if handles:
            self.figure.legend(
                handles, list(map(short_name, labels)), loc="outside lower left", frameon=False, fontsize=9
            )
        FigureCanvasSVG(self.figure)
        file = io.BytesIO()
        # Identifiers of shapes are hashes: with its own salt, a figure shares none with another on the page.
        with mpl.rc_context({"svg.hashsalt": "|".join(self.titles.values()), "svg.fonttype": "none"}):
            self.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        ElementTree.register_namespace("", _SVG)
        ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
        root = ElementTree.fromstring(file.getvalue())
        for element in root.iter(f"{{{_SVG}}}g"):
            # The identifiers of groups are removed: nothing refers to them, and they would repeat on a page.
            title = self.titles.get(element.attrib.pop("id", ""))
            if title is not None:
                named = ElementTree.Element(f"{{{_SVG}}}title")
                named.text = title
                element.insert(0, named)
        for key in ("width", "height"):
            root.attrib.pop(key, None)
        root.set("role", "img")
        return Markup(ElementTree.tostring(root, encoding="unicode"))


def figure_4(embedders: Sequence[Measured]) -> list[Figure]:
    """Figure 4: accuracy against multiply-adds; empty if no embedder has both."""
    measured = [
        (one.name, float(one.about["multiply_adds"]), rate)
        for one in embedders
        if one.about.get("multiply_adds") and (rate := finest(one.result("photos") or one.result("holdout")))
    ]
    if not measured:
        return []
    drawing = _Drawing(3.8)
    axes = drawing.axes
    for name, adds in MULTIPLY_ADDS.items():
        val, error = TABLE_3[name]
        title = f"the paper's {name}: {100 * val:.1f} % ± {100 * error:.1f}, {adds / 1e6:,.0f}M multiply-adds"
        drawing.mark(adds, val, title, alpha=1, markersize=6, color="none", markeredgecolor=INK)
    for i, (name, adds, rate) in enumerate(measured):
        spread = rate.get("standard_error")
        said = "" if spread is None else f" ± {100 * spread:.1f}"
        title = f"{name} at FAR {rate['far']:g}: {100 * rate['val']:.1f} %{said}, {adds / 1e6:,.0f}M multiply-adds"
        drawing.mark(adds, rate["val"], title, alpha=1, markersize=9, color=COLOURS[i % len(COLOURS)])
    axes.set_xscale("log")
    share_axis(axes)
    axes.set_xlabel("multiply-adds of one face (rings: the paper's networks on its own data)")
    axes.set_ylabel("VAL")
    caption = "VAL at the smallest FAR that the pairs resolve, 0.001 or more; point at a mark to read it."
    return [Figure(drawing.svg(), caption)]


def figure_5(embedders: Sequence[Measured]) -> list[Figure]:
    """Figure 5: ROC curves of all embedders, one figure for each protocol; the mean of several splits."""
    figures = []
    for protocol in ("holdout", *PAIR_PROTOCOLS):
        drawing, lowest = _Drawing(4.0), 1.0
        for i, one in enumerate(embedders):
            roc = (one.result(protocol) or {}).get("roc") or []
            curves = [(np.array(c["far"]), np.array(c["val"])) for c in (roc if isinstance(roc, list) else [roc])]
            far, val = mean_curve([(far, val) for far, val in curves if len(far)])
            if not len(far):
                continue
            drawing.axes.plot(
                far, val, color=COLOURS[i % len(COLOURS)], linewidth=2, drawstyle="steps-post", label=one.name
            )
            for place in np.unique(np.searchsorted(far, np.geomspace(far[0], 1, _MARKS)).clip(0, len(far) - 1)):
                x, y = float(far[place]), float(val[place])
                drawing.mark(x, y, f"{one.name}: VAL {100 * y:.1f} % at FAR {x:.2g}")
            lowest = min(lowest, float(far[0]))
        if drawing.titles:
            roc_axes(drawing.axes, lowest)
            figures.append(Figure(drawing.svg(), f"{protocol}: point along a curve to read it."))
    return figures


def histograms(embedders: Sequence[Measured]) -> list[Figure]:
    """Histograms of the distances of same and different pairs, one figure for each embedder and protocol."""
    figures = []
    for one, protocol, result in results(embedders, *PAIR_PROTOCOLS):
        if "histogram" not in result:
            continue
        drawing = _Drawing(3.2)
        same, different = (np.array(result["histogram"][kind]) for kind in ("same", "different"))
        thresholds = [(rate["far"], rate["threshold"]) for rate in result["rates"] if rate["threshold"] is not None]
        draw_histogram(drawing.axes, same, different, thresholds)
        edges = np.linspace(0, 4, len(same) + 1)
        for kind, counts in (("same", same), ("different", different)):
            for place in np.flatnonzero(counts):
                low, high = edges[place], edges[place + 1]
                title = f"{counts[place]:,} {kind} pairs between {low:.2f} and {high:.2f}"
                drawing.mark(float(low + high) / 2, float(counts[place] / counts.sum()), title)
        caption = f"{one.name}, {protocol}: shares of pairs by squared distance; thresholds."
        figures.append(Figure(drawing.svg(), caption))
    return figures


def training(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure | None:
    """The loss of each run over its steps; None where there is no run."""
    if not histories:
        return None
    drawing = _Drawing(3.2)
    for i, (name, rows) in enumerate(histories.items()):
        losses = [(row["step"], row["loss"]) for row in rows if row.get("loss") is not None and "step" in row]
        if not losses:
            continue
        steps, values = (np.array(column, float) for column in zip(*losses, strict=True))
        drawing.axes.plot(steps, values, color=COLOURS[i % len(COLOURS)], linewidth=1, label=name)
        for place in np.unique(np.linspace(0, len(steps) - 1, _MARKS).astype(int)):
            said = f"{name}, step {steps[place]:,.0f}: loss {values[place]:.4f}"
            drawing.mark(float(steps[place]), float(values[place]), said)
    drawing.axes.set_ylim(bottom=0)
    drawing.axes.set_xlabel("step")
    drawing.axes.set_ylabel("triplet loss")
    return Figure(drawing.svg(), "The loss of each run.")


def sweep_picture(folder: Path) -> Figure | None:
    """The figure that a sweep wrote; None if there is none."""
    try:
        content = base64.b64encode((folder / "sweep.png").read_bytes()).decode()
    except OSError:
        return None
    picture = Markup('<img alt="" src="data:image/png;base64,{}">').format(content)
    return Figure(picture, "VAL of each point, with standard errors.")
