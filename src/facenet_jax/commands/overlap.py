"""`facenet-jax overlap`: lists people and images that two datasets share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from facenet_jax.commands.options import add_command, write_out


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    overlap = add_command(
        commands,
        "overlap",
        _overlap,
        help="list people and images that two datasets share",
        description="Lists identities by name, and images by their bytes and by their looks, that two datasets share; "
        "each is a prepared dataset, or anything that `facenet-jax prepare` takes.",
    )
    overlap.add_argument("a", type=Path, metavar="A", help="a dataset, to train on for instance")
    overlap.add_argument("b", type=Path, metavar="B", help="another, to measure on for instance")
    overlap.add_argument("--out", type=Path, help="a JSON file for the results")


def _overlap(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.curation.overlap import find_overlap, format_overlap, open_compared

    found = find_overlap(open_compared(options.a), open_compared(options.b))
    if options.out:
        write_out(options.out, json.dumps(found.to_json(), indent=1) + "\n", "--out")
    print(format_overlap(found))
    if options.out:
        print(f"written         {options.out}")
    return 0
