"""`facenet-jax config`."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    config = commands.add_parser(
        "config",
        help="print a config's keys and values",
        description="Prints every key and value of a config, with overrides applied.",
        allow_abbrev=False,
    )
    config.add_argument("config", help="a config file, or the name of one")
    config.set_defaults(run=_config, takes_overrides=True)


def _config(options: argparse.Namespace, overrides: list[str]) -> int:
    from facenet_jax.config import flatten, load_config

    for key, value in flatten(load_config(options.config, overrides)).items():
        print(f"--config.{key}={value}")
    return 0
