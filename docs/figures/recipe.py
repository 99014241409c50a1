"""Draws four figures from benchmarks/results/recipe.json.

recipe.png: VAL over the minutes, with PyTorch, and what each choice gave in one seed. choices.png: what choices gave
with the same seeds. long.png: longer runs over their steps. networks.png: the paper's networks over the same faces,
and over the minutes that those take.

python docs/figures/recipe.py [FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from facenet_jax.evaluation.plot_style import BLUE, COLOURS, VERMILION, save, style

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "recipe.json"


def recipe_figure(document: dict[str, Any], path: Path) -> None:
    """Draws both, side by side, into a PNG file."""
    figure = Figure(figsize=(13, 6), layout="constrained")
    left, right = figure.subplots(1, 2)
    minutes(left, document["minutes"])
    choices(right, document["choices"])
    for axes, axis in ((left, left.yaxis), (right, right.xaxis)):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
        style(axes)
    save(figure, path)


def long_figure(runs: list[dict[str, Any]], path: Path) -> None:
    """VAL at FAR 0.01 on the hold-out over the steps of longer runs, with standard errors, into a PNG file.

    A dotted line continues where the rate falls.
    """
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for run, colour in zip(runs, COLOURS, strict=False):
        steps, values, errors = zip(*run["points"], strict=True)
        falls = run["falls_from"] or steps[-1]
        last = sum(step <= falls for step in steps)
        axes.errorbar(steps, values, errors, color=colour, marker="o", capsize=3, linestyle="none")
        axes.plot(steps[:last], values[:last], color=colour, label=run["name"])
        axes.plot(steps[last - 1 :], values[last - 1 :], color=colour, linestyle=":")
    axes.legend(loc="lower right", frameon=False)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("steps of 360 faces")
    axes.set_ylabel("VAL at FAR 0.01, hold-out")
    style(axes)
    save(figure, path)


def networks_figure(rows: list[dict[str, Any]], path: Path) -> None:
    """VAL at FAR 0.01 of all networks, with standard errors, into a PNG file.

    On the hold-out over the faces seen and over minutes of one core; on the people set aside over multiply-adds, as in
    the paper's Figure 4.
    """
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    seen, taken, adds = figure.subplots(1, 3)
    for row, colour in zip(rows, COLOURS, strict=False):
        steps, values, errors = (list(column) for column in zip(*row["points"], strict=True))
        faces = [step * row["batch"] for step in steps]
        seen.errorbar(faces, values, errors, color=colour, marker="o", capsize=3, label=row["name"])
        minutes = [count / row["images"] * row["core_minutes"] for count in faces]
        taken.errorbar(minutes, values, errors, color=colour, marker="o", capsize=3)
        x, y = row["multiply_adds"], row["val_far_0.01"]
        error = row["standard_errors"]["val_far_0.01"]
        adds.errorbar(x, y, error, color=colour, marker="o", capsize=3, linestyle="none", label=row["name"])
    seen.set_xlabel("faces seen")
    seen.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    seen.legend(loc="lower right", frameon=False)
    taken.set_xlabel("minutes of one core")
    for axes in (seen, taken):
        axes.set_ylabel("VAL at FAR 0.01, hold-out")
        axes.set_xlim(left=0)
    adds.set_xlabel("multiply-adds of one face")
    adds.set_ylabel("VAL at FAR 0.01, people set aside")
    adds.set_xscale("log")
    adds.legend(loc="lower right", frameon=False)
    adds.margins(x=0.2)
    for axes in (seen, taken, adds):
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        style(axes)
    save(figure, path)


def choices_figure(rows: list[dict[str, Any]], path: Path) -> None:
    """A line a choice, into a PNG file: what VAL at FAR 0.01 differs by from the first one's of the same seed.

    A dot is a seed, the bar their mean.
    """
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row["name"], {})[row["seed"]] = row["val_far_0.01"]
    base = found.pop(rows[0]["name"])
    differences = {name: [100 * (value - base[seed]) for seed, value in of.items()] for name, of in found.items()}
    names = sorted(differences, key=lambda name: sum(differences[name]) / len(differences[name]))
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        axes.plot(differences[name], [place] * len(differences[name]), "o", color=BLUE, alpha=0.7)
        mean = sum(differences[name]) / len(differences[name])
        axes.plot([mean, mean], [place - 0.3, place + 0.3], color=VERMILION, linewidth=2)
    axes.axvline(0, color=VERMILION, alpha=0.3)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("points of VAL at FAR 0.01 (hold-out) from the same seed of the recipe")
    style(axes)
    save(figure, path)


def minutes(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """VAL at FAR 0.01 on the people set aside over minutes, with standard errors; a line a configuration and seed."""
    colours = dict(zip(dict.fromkeys(row["name"] for row in rows), COLOURS, strict=False))
    lines: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["name"], row["seed"]), []).append(row)
    for (name, seed), points in lines.items():
        x = [row["core_minutes"] for row in points]
        y = [row["val_far_0.01"] for row in points]
        errors = [row["standard_error"] for row in points]
        label = name if seed == 0 else None
        axes.errorbar(x, y, errors, color=colours[name], marker="o", capsize=3, label=label)
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.44), frameon=False)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.set_xlabel("minutes of one core")
    axes.set_ylabel("VAL at FAR 0.01, 150 people set aside")


def choices(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """A run a line, the best on top; a band where the config as it is lies with its standard error."""
    rows = sorted(rows, key=lambda row: row["val_far_0.01"])
    for place, row in enumerate(rows):
        colour = VERMILION if row["unchanged"] else BLUE
        axes.errorbar(row["val_far_0.01"], place, xerr=row["standard_error"], color=colour, marker="o", capsize=3)
    for row in (row for row in rows if row["unchanged"]):
        low, high = (row["val_far_0.01"] + sign * row["standard_error"] for sign in (-1, 1))
        axes.axvspan(low, high, color=VERMILION, alpha=0.12, linewidth=0)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_xlabel("VAL at FAR 0.01 after 108,000 faces, hold-out")


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    results = json.loads(RESULTS.read_text())
    recipe_figure(results, folder / "recipe.png")
    long_figure(results["long"], folder / "long.png")
    choices_figure(results["three_seeds"], folder / "choices.png")
    networks_figure(results["networks"], folder / "networks.png")
