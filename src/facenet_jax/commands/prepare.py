"""`facenet-jax prepare`: makes a dataset of faces from photographs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facenet_jax.commands.options import add_command
from facenet_jax.errors import how_to_install

if TYPE_CHECKING:
    from facenet_jax.prepare.summary import DatasetSummary

_EPILOG = f"""\
SOURCE is a folder <identity>/<image>, a manifest (.csv or .parquet with the columns path and identity), or a folder
with InsightFace's train.rec, train.idx and property. Finding faces (tight, similarity) needs
  {how_to_install("align")}
Stopped or killed, it resumes when run again. On many machines that share OUT, give each its --shard:
  facenet-jax prepare photos faces --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
  facenet-jax merge faces
and train:
  facenet-jax train --config=nn4 --config.data.path=faces
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    prepare = add_command(
        commands,
        "prepare",
        _prepare,
        help="find, cut and store the faces of anyone's photographs",
        description="Turns photographs into a dataset to train on: faces found, cut out, resized and stored.",
        epilog=_EPILOG,
    )
    prepare.add_argument("source", type=Path, metavar="SOURCE", help="what to prepare")
    prepare.add_argument("out", type=Path, metavar="OUT", help="a folder for the dataset")
    prepare.add_argument(
        "--crop",
        default="tight",
        help="tight (about the detector's box: the paper's), similarity (by five landmarks), centre (the fixed "
        "middle), none (thumbnails already) (default: tight)",
    )
    prepare.add_argument("--size", type=int, default=224, help="of a face in pixels (default: 224, as NN2's)")
    prepare.add_argument("--detector", type=Path, help="a YuNet model in ONNX (default: the published one)")
    prepare.add_argument(
        "--exclude", type=Path, help="a file of identities and faces (<identity>/<image>) to pass over, one a line"
    )
    prepare.add_argument("--workers", type=int, help="processes (default: one a core; 0: this one)")
    prepare.add_argument(
        "--shard", type=_share, default=(0, 1), metavar="i/n", help="only the i-th of n shares, from 0/n to (n-1)/n"
    )


def _share(text: str) -> tuple[int, int]:
    try:
        which, number = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 0/4") from None
    return which, number


def _prepare(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.prepare.prepare import prepare
    from facenet_jax.runtime.progress import Progress

    progress = Progress()
    result = prepare(
        options.source,
        options.out,
        crop=options.crop,
        size=options.size,
        detector=options.detector,
        exclude=options.exclude,
        workers=options.workers,
        share=options.shard,
        progress=progress,
    )
    if result.faces:
        progress.say(f"{result.faces:,} faces done, {result.rate:,.0f} a second")
    if result.signal is not None:
        progress.say(f"stopped by {result.signal.name}; the same command resumes")
        return 128 + result.signal
    if result.summary is None:
        which, number = options.shard
        progress.say(f"shard {which}/{number} is done; when all {number} are: facenet-jax merge {options.out}")
        return 0
    show_summary(result.summary, options.out)
    return 0


def show_summary(summary: DatasetSummary, out: Path) -> None:
    """Prints a dataset's summary and draws its histogram into its folder."""
    from facenet_jax.evaluation.plots import identities_figure
    from facenet_jax.prepare.summary import FIGURE_FILE, format_summary

    print(format_summary(summary, out))
    title = f"{summary.faces:,} faces of {summary.identities:,} identities"
    print(f"{'picture':<16}{identities_figure(summary.histogram, title, out / FIGURE_FILE)}")
