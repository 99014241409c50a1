"""Draws selections.png: an anchor, its positives, the semi-hard band, and which face each selection takes.

python docs/figures/selections.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Wedge

from facenet_jax.evaluation.plot_style import BLUE, INK, ORANGE, SKY, VERMILION

MARGIN = 0.2
GREY = "#9A9A9A"
# Where faces lie around the anchor: squared distance, and the angle in degrees.
POSITIVES = [(0.12, 205), (0.20, 70), (0.30, 325), (0.52, 140)]
PAIR = (0.30, 180)
NEAR = [(0.09, 52), (0.16, 298), (0.22, 12)]
BAND = [(0.355, 100), (0.41, 330), (0.44, 222)]
FAR = [(0.66, 40), (0.70, 152), (0.80, 316), (0.76, 202), (0.74, 352)]
# In the third picture the positive lies beyond all negatives.
LONELY = (0.42, 180)
TOO_NEAR = [(0.09, 52), (0.13, 250), (0.20, 12), (0.27, 100), (0.36, 322)]


def selections_figure(path: Path) -> None:
    """Draws the three pictures, side by side, into a PNG file."""
    figure = Figure(figsize=(14, 6.4))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.93, bottom=0.25, wspace=0.04)
    panels = figure.subplots(1, 3)
    for axes in panels:
        axes.set_aspect("equal")
        axes.set_xlim(-0.98, 0.98)
        axes.set_ylim(-0.95, 0.9)
        axes.axis("off")
    _positives(panels[0])
    _negatives(panels[1])
    _no_semi_hard(panels[2])
    kinds = [("anchor", INK, "o", 11), ("positive", BLUE, "o", 10), ("negative", VERMILION, "D", 8)]
    marks = [_mark(colour, marker, size, label) for label, colour, marker, size in kinds]
    marks.append(_mark(GREY, "D", 8, "negative, of no account here"))
    marks.append(Wedge((0, 0), 1, 0, 360, facecolor=ORANGE, alpha=0.3, label="semi-hard band, as wide as the margin"))
    figure.legend(handles=marks, loc="lower center", ncols=5, frameon=False, fontsize=11, bbox_to_anchor=(0.5, 0.0))
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100, format="png")


def _positives(axes: Axes) -> None:
    _title(axes, "loss.positives")
    for one in [NEAR[0], NEAR[1], BAND[2], *FAR]:
        _face(axes, one, "negative", GREY)
    farthest = max(POSITIVES)
    for one in POSITIVES:
        _pair(axes, one, width=5 if one == farthest else 1.8)
    _word(axes, farthest, "hardest", BLUE, (0.12, 0.11))
    _face(axes, (0, 0), "anchor")
    _caption(axes, ("all", "each positive makes a pair"), ("hardest", "the farthest only"))


def _negatives(axes: Axes) -> None:
    _title(axes, "loss.negatives")
    _band(axes, PAIR[0])
    _pair(axes, PAIR)
    for one in FAR:
        _face(axes, one, "negative", GREY)
    for one in BAND:
        x, y = _place(*one)
        axes.plot(x, y, "o", markersize=21, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.5)
    for one in [*NEAR, *BAND]:
        _face(axes, one, "negative")
    _face(axes, (0, 0), "anchor")
    _word(axes, NEAR[0], "hardest", VERMILION, (0.02, 0.1))
    _word(axes, BAND[0], "semi_hard", VERMILION, (-0.02, 0.2))
    _note(axes, -0.42, "too near")
    _note(axes, -0.86, "beyond the margin: no loss")
    _caption(
        axes,
        ("semi_hard", "nearest beyond the positive"),
        ("hardest", "nearest of all"),
        ("random_semi_hard", "any that is ringed"),
    )


def _no_semi_hard(axes: Axes) -> None:
    _title(axes, "loss.no_semi_hard")
    _band(axes, LONELY[0])
    _pair(axes, LONELY)
    for one in TOO_NEAR:
        _face(axes, one, "negative")
    _face(axes, (0, 0), "anchor")
    _word(axes, TOO_NEAR[-1], "farthest", VERMILION, (-0.26, -0.08))
    _note(axes, -0.86, "no negative beyond the positive")
    _caption(axes, ("skip", "the pair gives no triplet"), ("farthest", "the farthest of all"))


def _band(axes: Axes, d_ap: float) -> None:
    """D(a, p) < D(a, n) < D(a, p) + margin, and what lies within."""
    inner, outer = np.sqrt(d_ap), np.sqrt(d_ap + MARGIN)
    axes.add_patch(Wedge((0, 0), outer, 0, 360, width=outer - inner, facecolor=ORANGE, alpha=0.3, linewidth=0))
    axes.add_patch(Circle((0, 0), inner, facecolor=SKY, alpha=0.13, linewidth=0))
    axes.add_patch(Circle((0, 0), inner, fill=False, edgecolor=BLUE, linewidth=1.5))
    axes.add_patch(Circle((0, 0), outer, fill=False, edgecolor=ORANGE, linewidth=1.5))
    axes.text(-inner / 2, 0.03, "D(a, p)", color=BLUE, ha="center", va="bottom", fontsize=11)


def _pair(axes: Axes, polar: tuple[float, float], width: float = 3) -> None:
    x, y = _place(*polar)
    axes.plot([0, x], [0, y], color=BLUE, linewidth=width, zorder=3)
    _face(axes, polar, "positive")


def _face(axes: Axes, polar: tuple[float, float], kind: str, colour: str = "") -> None:
    marker, own_colour, size = {
        "anchor": ("o", INK, 17),
        "positive": ("o", BLUE, 14),
        "negative": ("D", VERMILION, 10),
    }[kind]
    x, y = _place(*polar)
    axes.plot(x, y, marker, color=colour or own_colour, markersize=size, markeredgecolor="white", zorder=4)


def _place(squared_distance: float, degrees: float) -> tuple[float, float]:
    """Where a face lies, the anchor being at (0, 0)."""
    angle = np.radians(degrees)
    return float(np.sqrt(squared_distance) * np.cos(angle)), float(np.sqrt(squared_distance) * np.sin(angle))


def _word(axes: Axes, polar: tuple[float, float], text: str, colour: str, shift: tuple[float, float]) -> None:
    """A config value next to the face that it takes."""
    x, y = _place(*polar)
    at = (x + shift[0], y + shift[1])
    axes.text(*at, text, color=colour, ha="center", va="center", fontsize=13, family="monospace", fontweight="bold")


def _note(axes: Axes, y: float, text: str) -> None:
    axes.text(0, y, text, color=INK, ha="center", va="center", fontsize=11, style="italic")


def _title(axes: Axes, key: str) -> None:
    axes.set_title(key, fontsize=16, color=INK, family="monospace", fontweight="bold")


def _caption(axes: Axes, *lines: tuple[str, str]) -> None:
    """What each value of the key takes, below the picture."""
    for i, (value, words) in enumerate(lines):
        y = -0.03 - 0.07 * i
        style: dict[str, Any] = {"transform": axes.transAxes, "va": "center", "fontsize": 12, "color": INK}
        axes.text(0.41, y, value, ha="right", family="monospace", **style)
        axes.text(0.44, y, words, ha="left", **style)


def _mark(colour: str, marker: str, size: int, label: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, markersize=size, linestyle="", label=label)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    selections_figure(folder / "selections.png")
