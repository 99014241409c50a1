"""`facenet-jax config`: prints a config's keys, values and meanings."""

from __future__ import annotations

import argparse
from typing import Any

from facenet_jax.commands.options import add_command


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    config = add_command(
        commands,
        "config",
        _config,
        help="print a config's keys, values and meanings",
        description="Prints every key of a config as an option, overrides applied, and below it what it means, its "
        "range and the place in the paper.",
        takes_overrides=True,
    )
    config.add_argument("config", help="a config file, or the name of one")


def _config(options: argparse.Namespace, overrides: list[str]) -> int:
    from facenet_jax.config import KEYS, flatten, load_config

    meanings = {key.name: str(key) for key in KEYS}
    for name, value in flatten(load_config(options.config, overrides)).items():
        print(f"--config.{name}={value}")
        if name in meanings:  # a file may bring keys of its own
            print(f"    {meanings[name]}")
    return 0
