"""`facenet-jax merge`: joins the shares of a dataset that several machines prepared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from facenet_jax.commands.options import add_command


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    merge = add_command(
        commands,
        "merge",
        _merge,
        help="join the shares of prepare --shard into one dataset",
        description="Joins what `facenet-jax prepare --shard i/n` made, once all n are done, and prints the report.",
    )
    merge.add_argument("out", type=Path, metavar="OUT", help="the folder that was prepared into")


def _merge(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.commands.prepare import show_summary
    from facenet_jax.prepare.merge import merge

    show_summary(merge(options.out), options.out)
    return 0
