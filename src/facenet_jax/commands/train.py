"""`facenet-jax train`: trains a network, or resumes its training."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facenet_jax.commands.options import add_command
from facenet_jax.errors import InputError, first_line

_EPILOG = """\
Every value of the config can be given as --config.KEY=VALUE, for instance
  facenet-jax train --config=nn1 --config.data.path=faces --config.loss.margin=0.1 --workdir=runs/nn1
`facenet-jax config nn1` lists the keys. Run again with the same --workdir, the command resumes where the run stopped;
a finished run prints its table again. Ctrl-C saves and leaves.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    train = add_command(
        commands,
        "train",
        _train,
        help="train a network, or resume its training",
        description="Trains a network in a working directory, or resumes where it stopped.",
        epilog=_EPILOG,
        takes_overrides=True,
    )
    train.add_argument("--config", default="quickstart", help="a config file, or the name of one (default: quickstart)")
    train.add_argument("--workdir", help="where the run lives, on a disk or on gs:// (default: runs/<config>)")
    train.add_argument("--trace", type=int, metavar="STEP", help="write a profile of this step to WORKDIR/trace")
    train.add_argument(
        "--on-metrics",
        metavar="MODULE:FUNCTION",
        help="a function in a Python file of this folder, or of a package, that gets (step, figures) of each line of "
        "metrics.jsonl, such as for Weights & Biases (docs/training.md)",
    )
    hosts = train.add_argument_group(
        "several processes", "The same command in every process, with a --workdir on storage that they share."
    )
    hosts.add_argument(
        "--distributed", action="store_true", help="join the job that Cloud TPU, Slurm, Kubernetes or Open MPI started"
    )
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="elsewhere: an address of the first process")
    hosts.add_argument("--processes", type=int, metavar="N", help="elsewhere: how many there are")
    hosts.add_argument("--process", type=int, metavar="I", help="elsewhere: which this is, from 0")


def _train(options: argparse.Namespace, overrides: list[str]) -> int:
    others = (options.coordinator, options.processes, options.process)
    if not options.distributed and all(value is None for value in others):
        return _run(options, overrides)
    from facenet_jax.runtime.hosts import member

    with member(*others):
        return _run(options, overrides)


def _run(options: argparse.Namespace, overrides: list[str]) -> int:
    from facenet_jax.config import left_open, load_config
    from facenet_jax.runtime.files import in_bucket, locate
    from facenet_jax.runtime.hosts import alike, devices, is_first
    from facenet_jax.training.loop import train

    config = load_config(options.config, overrides)
    workdir = locate(options.workdir or f"runs/{Path(options.config).stem}")
    if options.trace is not None and options.trace < 1:
        raise InputError(f"--trace={options.trace}: steps count from 1; give the number of one that is still to come.")
    if options.trace is not None and in_bucket(workdir):
        raise InputError(f"--trace={options.trace}: a profile is written to a disk; give a --workdir on one.")
    hook = None
    if options.on_metrics is not None:
        devices()  # raises InputError for a platform that JAX cannot use
        with alike({}):
            hook = _function(options.on_metrics) if is_first() else None
    may_follow = left_open(options.config, overrides)
    return train(config, workdir, trace_step=options.trace, on_metrics=hook, may_follow=may_follow)


def _function(spec: str) -> Callable[..., object]:
    """The function that `MODULE:FUNCTION` names, in this folder or wherever Python finds modules.

    Raises:
      InputError: there is none, or its module ends in an exception.
    """
    said = f"--on-metrics={spec}"
    module, colon, name = spec.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), name)):
        raise InputError(f"{said}: give MODULE:FUNCTION, such as watch:log for the function log in watch.py.")
    if os.getcwd() not in sys.path:  # the command `facenet-jax` does not look there by itself
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:
        raise InputError(f"{said}: {type(error).__name__}: {first_line(error)}; fix the module.") from error
    if not callable(function):
        raise InputError(f"{said}: the module {module} has no function {name}; give one of its functions.")
    found: Callable[..., object] = function
    return found
