"""`facenet-jax report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from facenet_jax.errors import InputError
from facenet_jax.runtime.files import write_whole


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    report = commands.add_parser(
        "report",
        help="one page of all that was measured, with the paper's figures beside",
        description="Writes one self-contained page from runs and from what `evaluate --out` wrote.",
        allow_abbrev=False,
    )
    report.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="working directories, folders of `evaluate --out`, or sweeps",
    )
    report.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="default: report.html")
    report.add_argument("--title", default="Face embeddings, measured", help="of the page")
    report.add_argument(
        "--no-images", action="store_true", help="show wrong pairs by name only: with images, the page holds faces"
    )
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.report.build import build
    from facenet_jax.report.collect import collect

    text = build(collect(options.folders), options.title, not options.no_images)
    try:
        write_whole(options.output, text)
    except OSError as error:
        raise InputError(f"{options.output} cannot be written ({error.strerror}); give another file.") from error
    print(f"written         {options.output} ({len(text) / 1e6:.1f} MB)")
    return 0
