"""`facenet-jax report`: writes one page of all results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from facenet_jax.commands.options import add_command, write_out


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    report = add_command(
        commands,
        "report",
        _report,
        help="one page of all that was measured, with the paper's figures next to them",
        description="Writes one self-contained page from runs and from what `evaluate --out` wrote.",
    )
    report.add_argument(
        "folders",
        nargs="+",
        metavar="RUN",
        help="working directories (on a disk or on gs://), folders of `evaluate --out`, or sweeps",
    )
    report.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="default: report.html")
    report.add_argument("--title", default="Face embeddings, measured", help="of the page")
    report.add_argument(
        "--no-images", action="store_true", help="show wrong pairs by name only: with images, the page holds faces"
    )


def _report(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.report.build import build
    from facenet_jax.report.collect import collect
    from facenet_jax.runtime.files import locate

    text = build(collect([locate(folder) for folder in options.folders]), options.title, not options.no_images)
    write_out(options.output, text)
    print(f"written         {options.output} ({len(text) / 1e6:.1f} MB)")
    return 0
