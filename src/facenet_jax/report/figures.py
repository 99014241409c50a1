"""The report's figures: matplotlib's SVG, in which what is pointed at says what it is.

A browser shows an SVG element's title while the pointer rests on it, with no program at all; each mark is given an
identifier when it is drawn and its title once the file is written.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from facenet_jax.evaluation.paper import MULTIPLY_ADDS, TABLE_3
from facenet_jax.evaluation.plot_style import BLUE, COLOURS, GRID, INK, VERMILION, mean_curve

_SVG = "http://www.w3.org/2000/svg"
# Marks along a curve that say where it is.
_MARKS = 30


class _Titles:
    """Identifiers of marks, and what each is to say."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self._numbers = itertools.count()

    def mark(self, axes: Axes, x: float, y: float, title: str, **style: Any) -> None:
        """A mark that says something; unseen unless a style is given."""
        name = f"mark{next(self._numbers)}"
        self.of[name] = title
        look: dict[str, Any] = {"alpha": 0.001, "markersize": 9, "color": INK} | style
        axes.plot([x], [y], "o", gid=name, **look)


def multiply_adds_figure(points: Sequence[tuple[str, float, float, float | None]], what: str) -> str:
    """Figure 4: accuracy against multiply-adds.

    Args:
      points: (name, multiply-adds, VAL, standard error).
      what: the VAL.

    Returns:
      The SVG element.
    """
    figure, axes, titles = _figure()
    for name, adds in MULTIPLY_ADDS.items():
        val, error = TABLE_3[name]
        title = f"the paper's {name}: {100 * val:.1f} % ± {100 * error:.1f}, {adds / 1e6:,.0f}M multiply-adds"
        titles.mark(axes, adds, val, title, alpha=1, markersize=6, color="none", markeredgecolor=INK)
    for i, (name, adds, val, spread) in enumerate(points):
        said = "" if spread is None else f" ± {100 * spread:.1f}"
        title = f"{name}: {100 * val:.1f} %{said}, {adds / 1e6:,.0f}M multiply-adds"
        titles.mark(axes, adds, val, title, alpha=1, markersize=9, color=COLOURS[i % len(COLOURS)])
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("multiply-adds of one face (rings: the paper's networks on its own data)")
    axes.set_ylabel(what)
    return _svg(figure, titles)


def roc_curves(curves: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]]) -> str:
    """Figure 5: ROC curves of all embedders; each (FAR, VAL), one or a split each."""
    figure, axes, titles = _figure()
    lowest = 0.1
    for i, (name, several) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        far, val = mean_curve([(np.array(far), np.array(val)) for far, val in several if len(far)])
        if not len(far):
            continue
        axes.plot(far, val, color=colour, linewidth=2, drawstyle="steps-post", label=name)
        for place in np.unique(np.searchsorted(far, np.geomspace(far[0], 1, _MARKS)).clip(0, len(far) - 1)):
            x, y = float(far[place]), float(val[place])
            titles.mark(axes, x, y, f"{name}: VAL {100 * y:.1f} % at FAR {x:.2g}")
        lowest = min(lowest, float(far[0]))
    axes.set_xscale("log")
    axes.set_xlim(10.0 ** np.floor(np.log10(lowest) + 1e-9), 1)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("FAR, share of different pairs accepted")
    axes.set_ylabel("VAL, share of same pairs accepted")
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return _svg(figure, titles)


def distance_histogram(same: Sequence[int], different: Sequence[int], thresholds: Sequence[tuple[float, float]]) -> str:
    """Distances of same and different pairs, with (FAR, threshold) marked."""
    figure, axes, titles = _figure(height=3.2)
    edges = np.linspace(0, 4, len(same) + 1)
    for counts, label, colour in ((same, "same", BLUE), (different, "different", VERMILION)):
        shares = np.array(counts) / max(sum(counts), 1)
        axes.stairs(shares, edges, fill=True, alpha=0.5, color=colour, label=f"{label} ({sum(counts):,} pairs)")
        for low, high, count, share in zip(edges[:-1], edges[1:], counts, shares, strict=True):
            if count:
                title = f"{count:,} {label} pairs between {low:.2f} and {high:.2f}"
                titles.mark(axes, float(low + high) / 2, float(share), title)
    for far, threshold in thresholds:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle="--")
        axes.annotate(f" FAR {far:g}", (threshold, 1), xycoords=("data", "axes fraction"), va="top", fontsize=8)
    axes.set_xlim(0, 4)
    axes.set_xlabel("squared L2 distance")
    axes.set_ylabel("share of pairs")
    axes.legend(loc="upper right", frameon=False, fontsize=8)
    return _svg(figure, titles)


def history_figure(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The loss of each run over its steps, and VAL where it was measured."""
    figure, axes, titles = _figure(height=3.2)
    for i, (name, rows) in enumerate(histories.items()):
        colour = COLOURS[i % len(COLOURS)]
        losses = [(row["step"], row["loss"]) for row in rows if row.get("loss") is not None and "step" in row]
        if not losses:
            continue
        steps, values = (np.array(column, float) for column in zip(*losses, strict=True))
        axes.plot(steps, values, color=colour, linewidth=1, label=name)
        for place in np.unique(np.linspace(0, len(steps) - 1, _MARKS).astype(int)):
            said = f"{name}, step {steps[place]:,.0f}: loss {values[place]:.4f}"
            titles.mark(axes, float(steps[place]), float(values[place]), said)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step")
    axes.set_ylabel("triplet loss")
    if axes.lines:
        axes.legend(loc="upper right", frameon=False, fontsize=8)
    return _svg(figure, titles)


def _figure(height: float = 4.4) -> tuple[Figure, Axes, _Titles]:
    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes, _Titles()


def _svg(figure: Figure, titles: _Titles) -> str:
    FigureCanvasSVG(figure)
    file = io.BytesIO()
    # Identifiers of shapes are hashes: of a salt of its own, one figure's do not meet another's on the page.
    with mpl.rc_context({"svg.hashsalt": "|".join(titles.of.values()), "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(file.getvalue())
    for element in root.iter():
        if element.tag != f"{{{_SVG}}}g":
            continue
        # Nothing refers to a group, and several figures stand on one page.
        title = titles.of.get(element.attrib.pop("id", ""))
        if title is not None:
            named = ElementTree.Element(f"{{{_SVG}}}title")
            named.text = title
            element.insert(0, named)
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    return ElementTree.tostring(root, encoding="unicode")
