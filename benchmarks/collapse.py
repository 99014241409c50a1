"""Compares hardest negatives, which collapse, with semi-hard ones: the quickstart, several seeds of each.

    python -m benchmarks.collapse
    python -m benchmarks.collapse --steps 100 --seeds 1

Trains with `facenet-jax train`, without repeating runs that are finished, and writes benchmarks/results/collapse.json
and the figure docs/figures/collapse.png.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.lines import ROOT
from benchmarks.machine import describe_machine
from facenet_jax.evaluation.plot_style import BLUE, GREEN, VERMILION, style
from facenet_jax.training.metrics import read_metrics

# Differences from configs/quickstart.py: shorter, and with fewer people.
SETTINGS = {
    "model.norm": "response",  # the paper's form
    "data.drawn.identities": 1000,
    "optimizer.finalise_steps": 0,
    "eval.drawn_identities": 100,
    "checkpoint.every": 100,
}
ARMS = {
    "semi_hard": ("semi-hard", BLUE),
    "hardest": ("hardest", VERMILION),
    "curriculum": ("semi-hard, hardest from 3/4 on", GREEN),
}
FIGURES = {"loss": "loss", "spread": "spread", "val_far_0.01": "VAL at FAR 0.01"}


def overrides(arm: str, seed: int, steps: int) -> list[str]:
    """The options of one run, in addition to --config=quickstart."""
    values: dict[str, Any] = SETTINGS | {
        "seed": seed,
        "steps": steps,
        "eval.every": max(steps // 5, 1),
        "log.every": max(steps // 80, 1),
    }
    if arm == "hardest":
        values["loss.negatives"] = "hardest"
    if arm == "curriculum":
        values["loss.stages"] = ((steps * 3 // 4, "all", "hardest", 0.2),)
    return [f"--config.{key}={value}" for key, value in values.items()]


def train(arm: str, seed: int, steps: int, folder: Path) -> list[dict[str, Any]]:
    """Trains unless the run is finished, and returns the rows of its metrics.jsonl."""
    workdir = folder / f"{arm}-{steps}-{seed}"
    command = [sys.executable, "-m", "facenet_jax", "train", "--config=quickstart", f"--workdir={workdir}"]
    subprocess.run([*command, *overrides(arm, seed, steps)], check=True, stdout=sys.stderr, cwd=ROOT)
    return read_metrics(workdir)


def series(rows: list[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """Steps and values of one figure."""
    found = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    return [step for step, _ in found], [value for _, value in found]


def collapse_figure(runs: dict[str, list[list[dict[str, Any]]]], path: Path) -> None:
    """Draws loss, spread and VAL over steps into a PNG file, a thin line for each seed and a thick one for their mean.

    The first kind of run is on top: the curriculum equals it up to where it changes.
    """
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    for axes, (key, name) in zip(figure.subplots(1, len(FIGURES)), FIGURES.items(), strict=True):
        for arm, of_seeds in reversed(runs.items()):
            label, colour = ARMS[arm]
            lines = [series(rows, key) for rows in of_seeds]
            for steps, values in lines:
                axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.45)
            mean = np.mean([values for _, values in lines], axis=0)
            axes.plot(lines[0][0], mean, color=colour, linewidth=2.4, label=label)
        axes.set_title(f"{name} (logarithmic)" if key == "spread" else name)
        axes.set_xlabel("step")
        if key == "spread":
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        style(axes)
        if key.startswith("val"):
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.legend(loc="upper left", frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100, format="png")


def main() -> None:
    """Trains, writes and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="of each run (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (%(default)s)")
    parser.add_argument("--arms", default=",".join(ARMS), help="which kinds of run (%(default)s)")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "collapse", help="their working directories")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where the figures go")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "figures" / "collapse.png")
    options = parser.parse_args()

    options.results.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[list[dict[str, Any]]]] = {arm: [] for arm in options.arms.split(",")}
    for seed in range(options.seeds):
        for arm, of_seeds in runs.items():
            print(f"{arm}, seed {seed}", file=sys.stderr, flush=True)
            of_seeds.append(train(arm, seed, options.steps, options.runs))
        # After each seed, so that an interrupted measurement keeps its figures.
        (options.results / "collapse.json").write_text(json.dumps(results(runs, options.steps)) + "\n")
        collapse_figure(runs, options.picture)
    for arm, of_seeds in runs.items():
        for key, name in FIGURES.items():
            last = [series(rows, key)[1][-1] for rows in of_seeds]
            print(f"{ARMS[arm][0]:<24} {name:<16} {np.mean(last):.4f} at the end; by seed {np.round(last, 4).tolist()}")


def results(runs: dict[str, list[list[dict[str, Any]]]], steps: int) -> dict[str, Any]:
    """The content of the JSON file: machine, command of each kind of run, and [steps, values] of each figure."""
    kept = ("loss", "active_share", "mean_ap", "mean_an", "spread", "gradient_norm", "val_far_0.01")
    command = "facenet-jax train --config=quickstart"
    return {
        "machine": describe_machine(),
        "commands": {arm: " ".join([command, *overrides(arm, 0, steps)]) for arm in runs},
        "runs": {
            arm: [{key: series(rows, key) for key in kept} for rows in of_seeds] for arm, of_seeds in runs.items()
        },
    }


if __name__ == "__main__":
    main()
