"""Draws figures: ROC curves (figure 5 of the paper), the course of training, the faces of a dataset's identities."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from facenet_jax.errors import InputError
from facenet_jax.evaluation.folds import FoldsResult
from facenet_jax.evaluation.holdout import HoldoutResult
from facenet_jax.evaluation.plot_style import (
    BLUE,
    COLOURS,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    draw_histogram,
    mean_curve,
    one_panel,
    roc_axes,
    save,
    share_axis,
    short_name,
    style,
    write_title,
)

# Metrics in the second panel of the loss figure: label and colour.
_GEOMETRY = {
    "mean_an": ("mean D(a, n)", VERMILION),
    "mean_ap": ("mean D(a, p)", BLUE),
    "spread": ("spread", GREEN),
    "active_share": ("active share", ORANGE),
}


def roc_figure(results: HoldoutResult | Mapping[str, HoldoutResult], path: str | Path) -> Path:
    """Draws VAL against FAR: each split thin, their mean thick, and the rates at the FARs asked as marks.

    Args:
      results: one result, or several by name, drawn in one picture.
      path: the PNG file to write.

    Raises:
      InputError: there is no result to draw.
    """
    named = {"": results} if isinstance(results, HoldoutResult) else dict(results)
    if not named:
        raise InputError("There is no hold-out result to draw a ROC curve of; evaluate a checkpoint first.")
    figure, axes = one_panel(7, 5, _roc_title(named))
    lowest = 1.0
    for i, (name, result) in enumerate(named.items()):
        colour = COLOURS[i % len(COLOURS)]
        curves = [(split.roc_far, split.roc_val) for split in result.splits if len(split.roc_far)]
        if len(curves) > 1:
            for far, val in curves:
                axes.plot(far, val, color=colour, alpha=0.4, linewidth=0.8, drawstyle="steps-post")
        mean_far, mean_val = mean_curve(curves)
        label = f"{short_name(name)}: mean of {len(curves)} splits" if name else f"mean of {len(curves)} splits"
        if len(curves) == 1:
            label = f"{short_name(name)}: one split" if name else "one split"
        axes.plot(mean_far, mean_val, color=colour, linewidth=2.4, drawstyle="steps-post", label=label)
        resolved = [rate.far for rate in result.rates if rate.val is not None]
        lowest = min([lowest, *mean_far[:1], *resolved])
        for rate in result.rates:
            if rate.val is not None:
                axes.errorbar(
                    rate.far,
                    rate.val,
                    yerr=rate.standard_error,
                    fmt="o",
                    markersize=7,
                    capsize=4,
                    color=colour,
                    markeredgecolor="white",
                    ecolor=INK,
                    zorder=5,
                    clip_on=False,
                )
        if len(named) == 1:
            _write_rates(axes, result)
    roc_axes(axes, lowest)
    axes.yaxis.set_major_locator(MultipleLocator(0.1))
    axes.legend(loc="lower right", frameon=False)
    return save(figure, path)


# Name -> (FAR, VAL) of one curve or several.
Curves = Mapping[str, Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]]


def curves_figure(curves: Curves, title: str, path: str | Path) -> Path:
    """Draws ROC curves of several embedders, FAR on a log axis; returns the PNG file."""
    figure, axes = one_panel(7, 5, title)
    lowest = 0.1
    for i, (name, several) in enumerate(curves.items()):
        far, val = mean_curve([curve for curve in several if len(curve[0])])
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(far, val, color=colour, linewidth=2, drawstyle="steps-post", label=short_name(name))
        lowest = min([lowest, *far[:1]])
    roc_axes(axes, lowest)
    axes.legend(loc="lower right", frameon=False)
    return save(figure, path)


def histogram_figure(
    same: NDArray[np.int64],
    different: NDArray[np.int64],
    thresholds: Sequence[tuple[float, float]],
    title: str,
    path: str | Path,
) -> Path:
    """Draws the distances of same and different pairs as shares of each, with (FAR, threshold) marked."""
    figure, axes = one_panel(7, 4, title)
    draw_histogram(axes, same, different, thresholds)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return save(figure, path)


def accuracy_figure(folds: Mapping[str, FoldsResult], title: str, path: str | Path) -> Path:
    """Draws the accuracy of each fold, and the mean with its standard error."""
    figure, axes = one_panel(7, 4, title)
    for i, (name, result) in enumerate(folds.items()):
        colour = COLOURS[i % len(COLOURS)]
        numbers = np.arange(1, len(result.accuracies) + 1)
        axes.plot(numbers, result.accuracies, "o", color=colour)
        label = f"{short_name(name)}: {100 * result.accuracy:.2f}% ± {100 * result.standard_error:.2f}"
        axes.axhline(result.accuracy, color=colour, label=label)
        axes.axhspan(
            result.accuracy - result.standard_error, result.accuracy + result.standard_error, color=colour, alpha=0.15
        )
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("fold")
    axes.set_ylabel("accuracy")
    axes.legend(loc="lower left", frameon=False)
    return save(figure, path)


def quality_figure(series: Mapping[str, Mapping[str, Mapping[int, Any]]], far: float, path: str | Path) -> Path:
    """Draws VAL against JPEG quality and image size (Table 4), next to the paper's NN1."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, kind, label in zip(panels, ("jpeg_quality", "image_pixels"), ("JPEG quality", "pixels"), strict=True):
        style(axes)
        first = next(iter(series.values()))[kind]
        axes.plot(list(first), [row["paper"] for row in first.values()], "--o", color=INK, label="the paper, NN1")
        for i, (name, rows) in enumerate(series.items()):
            known = [(value, row["val"]) for value, row in rows[kind].items() if row["val"] is not None]
            if known:
                axes.plot(*zip(*known, strict=True), "-o", color=COLOURS[i % len(COLOURS)], label=name)
        share_axis(axes)
        axes.set_xlabel(label)
    panels[1].set_xscale("log")
    panels[0].set_ylabel(f"VAL at FAR {far:g}")
    panels[0].legend(loc="lower right", frameon=False)
    return save(figure, path)


def loss_figure(metrics: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Draws the course of training: the loss, how the points lie on the sphere, and VAL where it was measured.

    Args:
      metrics: rows with 'step' and any of 'loss', 'active_share' (active triplets / triplets), 'spread'
        (1 - |mean embedding|^2), 'mean_ap', 'mean_an' (mean squared L2 distances), 'val_far_0.01' and the like, and
        'val_far_0.01_standard_error'. A row that lacks one, or has None or NaN there, is left out of its line.
      path: the PNG file to write.

    Raises:
      InputError: no row has a step and a loss.
    """
    steps, losses = _series(metrics, "loss")
    if len(steps) == 0:
        raise InputError("There is no loss to draw, since no row of the metrics has a step and a loss; train first.")
    rates = sorted({key for row in metrics for key in row if re.fullmatch(r"val_far_[^_]+", key)}, reverse=True)
    figure = Figure(figsize=(8, 8.5 if rates else 6), layout="constrained")
    panels = figure.subplots(3 if rates else 2, 1, sharex=True)
    for axes in panels:
        style(axes)
    upper, middle, lowest = panels[0], panels[1], panels[-1]

    window = _window(steps)
    upper.plot(steps, losses, color=SKY, linewidth=0.8, alpha=0.7, label="each row", **_dot(steps))
    if window > 1:
        upper.plot(*_smooth(steps, losses), color=BLUE, linewidth=2, label=f"mean of {window} rows")
    upper.set_ylim(0, 1.08 * max(float(losses.max()), 1e-6))
    upper.set_ylabel("triplet loss")
    write_title(upper, f"Training up to step {int(steps[-1]):,}")
    upper.legend(loc="lower left", frameon=False)

    for key, (label, colour) in _GEOMETRY.items():
        at, values = _series(metrics, key)
        if len(at):
            middle.plot(at, values, color=colour, linewidth=0.7, alpha=0.3)
            middle.plot(*_smooth(at, values), color=colour, linewidth=1.8, label=label, **_dot(at))
    middle.set_ylim(bottom=0)
    middle.set_ylabel("share, or squared L2 distance")
    if middle.lines:
        middle.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    for key, colour, marker in zip(rates, (BLUE, PURPLE, INK), "osD", strict=False):
        at, values = _series(metrics, key)
        errors = dict(zip(*_series(metrics, f"{key}_standard_error"), strict=True))
        bars = [100 * errors.get(step, 0.0) for step in at]
        label = f"VAL at FAR {float(key.removeprefix('val_far_')):g}"
        lowest.errorbar(at, 100 * values, bars, color=colour, marker=marker, markersize=5, capsize=3, label=label)
    if rates:
        lowest.set_ylim(bottom=0)
        lowest.set_ylabel("VAL, % (± standard error)")
        lowest.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    lowest.set_xlabel("step")
    lowest.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
    lowest.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return save(figure, path)


def identities_figure(histogram: Sequence[Sequence[int]], title: str, path: str | Path) -> Path:
    """Draws how many identities have how many faces.

    Args:
      histogram: [[least faces, most faces, identities], ...], ascending.
      title: above it.
      path: the PNG file to write.
    """
    figure, axes = one_panel(7, 4, title)
    names = [f"{least:,}" if least == most else f"{least:,} to {most:,}" for least, most, _ in histogram]
    counts = [identities for *_, identities in histogram]
    bars = axes.barh(names, counts, height=0.95, color=BLUE)
    axes.bar_label(bars, [f" {count:,}" for count in counts], color=INK, fontsize=8)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlim(0, 1.15 * max([*counts, 1]))
    axes.set_xlabel("identities")
    axes.set_ylabel("faces of an identity")
    return save(figure, path)


def _roc_title(named: Mapping[str, HoldoutResult]) -> str:
    result = next(iter(named.values()))
    title = f"Hold-out verification, {result.faces:,} faces of {result.identities:,} identities"
    same_set = all(
        (other.faces, other.same_pairs, other.different_pairs)
        == (result.faces, result.same_pairs, result.different_pairs)
        for other in named.values()
    )
    pairs = f"{result.same_pairs:,} same and {result.different_pairs:,} different pairs"
    return f"{title}\n{pairs}" if same_set else "Hold-out verification"


def _write_rates(axes: Axes, result: HoldoutResult) -> None:
    """Writes the rates next to their marks, on the side where the curve leaves room."""
    for rate in result.rates:
        if rate.val is None:
            continue
        error = "" if rate.standard_error is None else f" ± {100 * rate.standard_error:.1f}"
        above = rate.val < 0.5
        axes.annotate(
            f"{100 * rate.val:.1f}%{error}\nat FAR {rate.far:.3g}",
            (rate.far, rate.val),
            xytext=(-8, 10) if above else (10, -10),
            textcoords="offset points",
            ha="right" if above else "left",
            va="bottom" if above else "top",
            fontsize=9,
            color=INK,
        )


def _series(metrics: Sequence[Mapping[str, Any]], key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values of one metric, in order of steps, without missing and non-finite values."""
    found = [(row["step"], row[key]) for row in metrics if row.get("step") is not None and row.get(key) is not None]
    table = np.array(found, np.float64).reshape(-1, 2)
    table = table[np.isfinite(table).all(axis=1)]
    table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0], table[:, 1]


def _window(steps: NDArray[np.float64]) -> int:
    """Rows in a moving mean: about one in forty, and odd, so that it has a middle."""
    return 2 * (len(steps) // 80) + 1


def _smooth(steps: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centred moving mean, only where its window is full: at the ends noise would look like a trend."""
    window = _window(steps)
    reach = window // 2
    return steps[reach : len(steps) - reach], np.convolve(values, np.full(window, 1 / window), "valid")


def _dot(steps: NDArray[np.float64]) -> dict[str, Any]:
    """A marker where a line would not be seen."""
    return {"marker": "o"} if len(steps) == 1 else {}
