"""Shared parts of all figures: colours, axes, curves, histograms, and saving.

Figures are made without pyplot, so they need no display and share no global state. Colours are those of Okabe and Ito,
which colour-blind people can distinguish.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from facenet_jax.evaluation.against import AGAINST
from facenet_jax.runtime.files import write_whole

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
INK, GRID = "#333333", "#DDDDDD"
# Letters of a name in a legend.
_LONGEST = 60


def one_panel(width: float, height: float, title: str = "") -> tuple[Figure, Axes]:
    """A figure of one panel, of a size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    style(axes)
    write_title(axes, title)
    return figure, axes


def short_name(name: str) -> str:
    """An embedder's name for a legend, shortened from the front, since the ends of paths differ; of two, both."""
    parts = name.split(AGAINST)
    most = _LONGEST // len(parts)
    return AGAINST.join(part if len(part) <= most else f"…{part[1 - most :]}" for part in parts)


def style(axes: Axes) -> None:
    """Gives axes the common style."""
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK)


def write_title(axes: Axes, title: str) -> None:
    """A title on the left, above axes."""
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=INK)


def share_axis(axes: Axes) -> None:
    """Makes the vertical axis one of shares from 0 to 1, in percent."""
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def roc_axes(axes: Axes, lowest: float) -> None:
    """Makes axes of VAL against FAR, with a logarithmic axis from the power of ten below the lowest FAR."""
    axes.set_xscale("log")
    axes.set_xlim(10.0 ** np.floor(np.log10(lowest) + 1e-9) if lowest < 1 else 0.1, 1)
    share_axis(axes)
    axes.set_xlabel("FAR, share of different pairs accepted")
    axes.set_ylabel("VAL, share of same pairs accepted")


def draw_histogram(
    axes: Axes, same: NDArray[np.int64], different: NDArray[np.int64], thresholds: Sequence[tuple[float, float]]
) -> None:
    """Draws the distances of same and different pairs as shares of each, with (FAR, threshold) marked.

    The axis ends a little after the last pair or threshold.
    """
    edges = np.linspace(0, 4, len(same) + 1)
    last = edges[1:][(same > 0) | (different > 0)].max(initial=0)
    # The label of a threshold stands on its right.
    end = max([1.05 * last, *(1.2 * threshold for _, threshold in thresholds)]) or 4
    highest = 0.0
    for counts, label, colour in ((same, "same", BLUE), (different, "different", VERMILION)):
        shares = counts / max(int(counts.sum()), 1)
        axes.stairs(shares, edges, fill=True, alpha=0.5, color=colour, label=f"{label} ({int(counts.sum()):,} pairs)")
        highest = max(highest, float(shares.max(initial=0)))
    # Thresholds may lie next to each other: each label has a line of its own, which no mark further right reaches.
    for row, (far, threshold) in enumerate(sorted(thresholds, key=lambda one: one[1])):
        top = 1 - 0.07 * row
        axes.axvline(threshold, ymax=top, color=INK, linewidth=1, linestyle="--")
        axes.annotate(f" FAR {far:g}", (threshold, top), xycoords=("data", "axes fraction"), va="top", fontsize=8)
    axes.set_xlim(0, end)
    axes.set_ylim(0, 1.25 * highest or 1)
    axes.set_xlabel("squared L2 distance")
    axes.set_ylabel("share of pairs")


def mean_curve(
    curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean VAL of several ROC curves, from the FAR onwards at which all of them have begun."""
    if not curves:
        return np.empty(0), np.empty(0)
    fars = np.unique(np.concatenate([far for far, _ in curves]))
    fars = fars[fars >= max(far[0] for far, _ in curves)]
    # At a given FAR the best that does not exceed it, as for the operating points.
    vals = [val[np.searchsorted(far, fars, side="right") - 1] for far, val in curves]
    return fars, np.mean(vals, axis=0)


def save(figure: Figure, path: str | Path) -> Path:
    """Writes a figure as a PNG file, whole or not at all."""
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, dpi=150, format="png")
    target = Path(path) if isinstance(path, str) else path
    write_whole(target, file.getvalue())
    return target
