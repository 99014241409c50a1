"""Declares subcommands and the options that several share, and writes the files that options name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facenet_jax.errors import InputError, how_to_install

if TYPE_CHECKING:
    from facenet_jax.recognition.finder import FaceFinder

CROPS = ("none", "centre", "tight", "similarity")

EPILOG = f"""\
EMBEDDER is the working directory of a run, sface, or onnx:PATH, as for `facenet-jax evaluate`. Finding faces (crops
tight and similarity) needs
  {how_to_install("align")}
Only with the consent of those who are shown: docs/recognition.md.
"""


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace, list[str]], int],
    *,
    help: str,
    description: str,
    epilog: str = "",
    takes_overrides: bool = False,
) -> argparse.ArgumentParser:
    """Adds a subcommand to argparse's subparsers.

    Args:
      commands: the subparsers.
      name: of the subcommand.
      run: takes the parsed options and the overrides of a config, and returns the exit code.
      help: its line in the list of subcommands.
      description: the first lines of its own --help.
      epilog: the last lines of its own --help, kept as they are.
      takes_overrides: whether --config.KEY=VALUE may be given.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, takes_overrides=takes_overrides)
    return parser


def all_parsers(
    parser: argparse.ArgumentParser, *words: str
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Yields a parser and those of all its subcommands, each with the words that lead to it."""
    getattr(parser, "complete", lambda: None)()  # evaluate's, which are filled in when they are used
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from all_parsers(below, *words, name)


def add_step(parser: Any) -> None:
    """Adds --step."""
    parser.add_argument("--step", type=int, help="of a run's checkpoint (default: the best, or else the latest)")


def add_embedder(parser: Any, needed: bool = True) -> None:
    """Adds --embedder, --step, --flip and --crop."""
    parser.add_argument("--embedder", required=needed, metavar="EMBEDDER", help="what embeds faces")
    add_step(parser)
    parser.add_argument(
        "--flip",
        action="store_true",
        help="a point is the mean of the face's and its mirror image's (as EMBEDDER flip:...); twice the time",
    )
    parser.add_argument(
        "--crop",
        choices=CROPS,
        help="how faces are cut: tight, similarity (all that are found), centre (the middle), none (they are cut "
        "already) (default: as the embedder, or the dataset that a run was trained on, says)",
    )


def add_evaluation(
    parser: Any, text: str = "what `evaluate holdout|photos|lfw|pairs --out` wrote: where the threshold comes from"
) -> None:
    """Adds --evaluation."""
    parser.add_argument("--evaluation", type=Path, metavar="FILE.json", help=text)


def add_far(parser: Any) -> None:
    """Adds --far."""
    parser.add_argument("--far", type=float, help="false accept rate (default: the smallest that was measured)")


def add_accept_rate(parser: Any) -> None:
    """Adds --accept-rate."""
    parser.add_argument(
        "--accept-rate",
        type=float,
        metavar="RATE",
        help="refuse thresholds at which more strangers than this share would be named (default: 0.1)",
    )


def add_largest(parser: Any) -> None:
    """Adds --largest."""
    parser.add_argument("--largest", action="store_true", help="of several faces take the largest near the centre")


def write_out(path: Path, text: str, option: str = "") -> None:
    """Writes a file that the user named.

    Args:
      path: the file.
      text: its content.
      option: the option that named it, such as `--out`, for the error; empty if the file alone says enough.

    Raises:
      InputError: it cannot be written.
    """
    from facenet_jax.runtime.files import write_whole  # not for --help: this brings NumPy

    try:
        write_whole(path, text)
    except OSError as error:
        named = f"{option}={path}" if option else f"{path}"
        raise InputError(f"{named} cannot be written ({error.strerror}); give another file.") from error


def finder_of(options: argparse.Namespace) -> FaceFinder:
    """Opens the embedder and the face detector that the options name."""
    from facenet_jax.recognition.finder import open_finder

    return open_finder(options.embedder, options.step, options.crop, options.flip)
