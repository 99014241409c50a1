"""Draws the figure of a sweep: VAL against the swept value (Figure 4, Tables 3, 5 and 6 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from facenet_jax.errors import InputError
from facenet_jax.evaluation.plot_style import BLUE, INK, PURPLE, one_panel, save

# With at least this ratio of the largest value to the smallest, an axis of numbers is logarithmic.
_LOGARITHMIC_FROM = 8


class Measured(NamedTuple):
    """A point of the figure: its name, VAL in [0, 1], and the standard error over splits, None with one split."""

    name: str
    val: float
    standard_error: float | None


def sweep_figure(title: str, axis: str, measured: Mapping[float, Sequence[Measured]], path: str | Path) -> Path:
    """Draws VAL with its standard error against the swept value, one line for each FAR.

    Args:
      title: the question.
      axis: what was swept.
      measured: for each FAR the points that have a rate there. If every name is a number, the axis is one of numbers,
        logarithmic if they span a wide range; otherwise names are placed in the order given.
      path: the PNG file to write.

    Raises:
      InputError: there is no point.
    """
    names = list(dict.fromkeys(point.name for points in measured.values() for point in points))
    if not names:
        raise InputError("There is no finished point of the sweep to draw; run it first.")
    numbers = _numbers(names)
    figure, axes = one_panel(7, 4.5, title)
    for far, colour, marker in zip(sorted(measured, reverse=True), (BLUE, PURPLE, INK), "osD", strict=False):
        points = measured[far]
        places = [numbers[point.name] if numbers else names.index(point.name) for point in points]
        axes.errorbar(
            places,
            [100 * point.val for point in points],
            [100 * (point.standard_error or 0.0) for point in points],
            color=colour,
            marker=marker,
            markersize=6,
            capsize=4,
            # A line between networks or selections would suggest values in between.
            linestyle="-" if numbers else "none",
            label=f"FAR {far:g}",
        )
    if numbers:
        low, high = min(numbers.values()), max(numbers.values())
        if low > 0 and high / low >= _LOGARITHMIC_FROM:
            axes.set_xscale("log")
        axes.set_xticks(list(numbers.values()), [f"{value:,g}" for value in numbers.values()])
        axes.minorticks_off()
    else:
        upright = sum(map(len, names)) <= 50
        axes.set_xticks(range(len(names)), names, rotation=0 if upright else 20, ha="center" if upright else "right")
        axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(axis)
    axes.set_ylabel("VAL, % (± standard error)")
    axes.legend(frameon=False)
    return save(figure, path)


def _numbers(names: Sequence[str]) -> dict[str, float]:
    """Each name's value, in order of value; empty if one is not a number."""
    try:
        values = {name: float(name) for name in names}
    except ValueError:
        return {}
    return dict(sorted(values.items(), key=lambda item: item[1]))
