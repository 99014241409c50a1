"""`facenet-jax verify`: compares two photographs."""

from __future__ import annotations

import argparse
from typing import Any

from facenet_jax.commands.options import (
    EPILOG,
    add_accept_rate,
    add_command,
    add_embedder,
    add_evaluation,
    add_far,
    add_largest,
    finder_of,
)
from facenet_jax.errors import InputError


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    verify = add_command(
        commands,
        "verify",
        _verify,
        help="whether two photographs are of the same person",
        description="Compares two faces. Exit code 0: the same person; 1: different people; 2: bad input.",
        epilog=EPILOG,
    )
    for name in ("first", "second"):
        verify.add_argument(name, metavar="PHOTO", help="a photograph, or photo.jpg#2: its second face from the left")
    add_embedder(verify)
    add_evaluation(verify)
    add_far(verify)
    add_accept_rate(verify)
    add_largest(verify)


def _verify(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.recognition.thresholds import choose_threshold, how_to_evaluate, read_thresholds
    from facenet_jax.recognition.verify import compare

    try:
        finder = finder_of(options)
        if options.evaluation is None:
            raise InputError(f"A threshold comes from an evaluation: give --evaluation, or {how_to_evaluate(finder)}")
        threshold = choose_threshold(read_thresholds(options.evaluation, finder), options.far)
        threshold.check(1, options.accept_rate)
        compared = compare(finder, options.first, options.second, options.largest)
    except OSError as error:  # not exit code 1, which means different people
        raise InputError(f"{error.filename or 'a file'} cannot be read ({error.strerror}); check it.") from error
    same = compared.distance <= threshold.distance
    print(f"squared distance  {compared.distance:.4f} between {compared.first} and {compared.second}")
    print(f"threshold         {threshold}")
    print(f"                  {threshold.promise()}")
    print(f"decision          {'the same person' if same else 'different people'}")
    return 0 if same else 1
