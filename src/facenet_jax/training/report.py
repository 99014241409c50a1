"""What a finished run leaves for a person: a table, two pictures, and the same for machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from facenet_jax.evaluation.holdout import HoldoutResult, format_holdout, holdout_to_json
from facenet_jax.evaluation.plots import loss_figure, roc_figure
from facenet_jax.runtime.files import write_whole
from facenet_jax.training.metrics import read_metrics

REPORT_FILE = "report.json"


def val_metrics(result: HoldoutResult) -> dict[str, Any]:
    """The rows that an evaluation adds to the metrics: val_far_0.01, its standard error, and so on."""
    values: dict[str, Any] = {}
    for rate in result.rates:
        values[f"val_far_{rate.far:g}"] = rate.val
        values[f"val_far_{rate.far:g}_standard_error"] = rate.standard_error
    return values


def best_metric(result: HoldoutResult) -> float | None:
    """What makes a checkpoint the best: VAL at the first FAR that the pairs resolve."""
    return next((rate.val for rate in result.rates if rate.val is not None), None)


def write_report(workdir: Path, step: int, result: HoldoutResult, held_out_name: str) -> str:
    """Writes roc.png, loss.png and report.json, and returns the text that ends a run."""
    roc_figure({held_out_name: result}, workdir / "roc.png")
    loss_figure(read_metrics(workdir), workdir / "loss.png")
    table = (
        f"after {step:,} steps, on {held_out_name} (identities never trained on)\n{format_holdout(result)}\n"
        f"pictures        {workdir / 'roc.png'}, {workdir / 'loss.png'}\n"
        f"checkpoint      {workdir / 'checkpoints' / str(step)}"
    )
    report = {"step": step, "table": table, "holdout": holdout_to_json(result)}
    write_whole(workdir / REPORT_FILE, json.dumps(report, indent=1) + "\n")
    return table


def finished_report(workdir: Path, steps: int) -> str | None:
    """The text that ended a run, or None where the run in this directory has not got so far as `steps`."""
    try:
        report = json.loads((workdir / REPORT_FILE).read_text())
        return str(report["table"]) if report["step"] >= steps else None
    except (OSError, ValueError, KeyError, TypeError):  # what is no report is written anew
        return None
