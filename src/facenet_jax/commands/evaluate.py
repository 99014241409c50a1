"""`facenet-jax evaluate PROTOCOL`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from facenet_jax.errors import InputError


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a trained network by the paper's protocols",
        description="Measures the best checkpoint of a run on faces of people that it was not trained on.",
        allow_abbrev=False,
    )
    protocols = evaluate.add_subparsers(dest="protocol", required=True, metavar="PROTOCOL")
    holdout = protocols.add_parser(
        "holdout",
        help="VAL at FAR 1e-2 and 1e-3 over splits of identities (section 4.1)",
        description="VAL at FAR 1e-2 and 1e-3, mean and standard error over splits of the identities.",
        allow_abbrev=False,
    )
    holdout.add_argument("--embedder", type=Path, required=True, help="the working directory of a run")
    holdout.add_argument("--data", help="a folder <identity>/<image> (default: the run's own held-out faces)")
    holdout.add_argument("--step", type=int, help="of the checkpoint (default: the best, or else the latest)")
    holdout.add_argument("--out", type=Path, help="a folder for holdout.json and roc.png")
    holdout.set_defaults(run=_holdout)


def _holdout(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.evaluation.holdout import format_table, to_json
    from facenet_jax.evaluation.plots import roc_figure
    from facenet_jax.training.trained import evaluate_trained

    step, name, result = evaluate_trained(options.embedder, options.data, options.step)
    print(f"{options.embedder} at step {step:,}, on {name}\n{format_table(result)}")
    if options.out:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "holdout.json").write_text(json.dumps(to_json(result), indent=1) + "\n")
        except OSError as error:
            raise InputError(
                f"--out={options.out} cannot be written ({error.strerror}); give another folder."
            ) from error
        print(f"written         {options.out / 'holdout.json'}, {roc_figure({name: result}, options.out / 'roc.png')}")
    return 0
