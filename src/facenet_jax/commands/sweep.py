"""`facenet-jax sweep SWEEP`: answers a question by several runs."""

from __future__ import annotations

import argparse
from typing import Any

from facenet_jax.commands.options import add_command

_EPILOG = """\
Every value of the config can be given as --config.KEY=VALUE, for all points; for instance
  facenet-jax sweep embedding_size --config=nn4 --config.data.path=faces --config.steps=5000
Run again, the command resumes where it stopped: a point that has its report is not run again. A point that fails is
named at the end, and the exit code is 1. With a --launcher each point is a job of its own, sent by the scripts in
launch/, which take what else they need from the environment (NODES, GPUS, ZONE, ...); run again, the command sends
what was not sent yet and collects what is finished.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    sweep = add_command(
        commands,
        "sweep",
        _sweep,
        help="answer a question by several runs: embedding size, networks, triplets",
        description="Trains every point of a sweep, and ends with one table, one picture and one CSV over all of them.",
        epilog=_EPILOG,
        takes_overrides=True,
    )
    sweep.add_argument(
        "sweep", help="a file, or one of choices, embedding_size, learning_rate, networks, training_images, triplets"
    )
    sweep.add_argument("--config", default="quickstart", help="what all points start from (default: quickstart)")
    sweep.add_argument("--workdir", help="where the points' runs live (default: runs/sweeps/<sweep>)")
    sweep.add_argument(
        "--launcher", default="local", choices=("local", "slurm", "gke", "tpu"), help="where (default: local)"
    )
    sweep.add_argument("--again", action="store_true", help="send jobs again that were sent and have not finished")
    sweep.add_argument("--dry-run", action="store_true", help="print the points and the commands, and run none")


def _sweep(options: argparse.Namespace, overrides: list[str]) -> int:
    from facenet_jax.sweeps.points import load_sweep
    from facenet_jax.sweeps.run import run_sweep

    sweep = load_sweep(options.sweep, options.config, overrides)
    workdir = options.workdir or f"runs/sweeps/{sweep.name}"
    return run_sweep(sweep, workdir, options.launcher, again=options.again, dry_run=options.dry_run)
