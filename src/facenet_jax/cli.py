"""The command `facenet-jax`: parses, runs the subcommand, and turns errors into a sentence and an exit code."""

from __future__ import annotations

import argparse
import difflib
import io
import logging
import sys
from collections.abc import Sequence

from facenet_jax import __version__
from facenet_jax.commands import (
    album,
    audit,
    cluster,
    completion,
    config,
    describe,
    embed,
    enroll,
    evaluate,
    export,
    identify,
    merge,
    overlap,
    plan,
    prepare,
    report,
    sweep,
    train,
    verify,
    view,
)
from facenet_jax.errors import InputError, TrainingError, told
from facenet_jax.runtime import library_log
from facenet_jax.runtime.compiled import keep_compiled
from facenet_jax.runtime.output import code_for_output, kept_output

_COMMANDS = (
    album,
    prepare,
    merge,
    overlap,
    train,
    sweep,
    config,
    describe,
    plan,
    evaluate,
    report,
    view,
    embed,
    verify,
    enroll,
    identify,
    cluster,
    audit,
    export,
    completion,
)

_WITHOUT_NETWORKS = ("completion", "prepare", "merge", "overlap", "config", "describe", "report", "view")

_EPILOG = """\
a first run, on drawn faces that need no download:
  facenet-jax train --config=quickstart --workdir=runs/quickstart
your own photographs, one folder a person, searched with a pretrained network:
  facenet-jax album photos -o album
or trained on:
  facenet-jax prepare photos faces
  facenet-jax train --config=recipe_cpu --config.data.path=faces --workdir=runs/mine
what a network is made of:
  facenet-jax describe nn2
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand; bad input is one sentence on standard error and exit code 2."""
    _print_any_name()
    with kept_output() as (output, _):
        try:
            code = _run(arguments)
        except SystemExit as leaving:  # of argparse: after --help, or a command line that it does not understand
            code = leaving.code if isinstance(leaving.code, int) else 0
            output.flush()
            if output.error is None:
                raise
        output.flush()
        return code_for_output(code, output)


def _run(arguments: Sequence[str] | None) -> int:
    parser = make_parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    names = [command.__name__.rpartition(".")[2] for command in _COMMANDS]
    if arguments and not arguments[0].startswith("-") and arguments[0] not in names:
        nearest = difflib.get_close_matches(arguments[0], names, n=1)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        parser.error(f"{arguments[0]}: there is no such command; {hint}the commands are {', '.join(names)}.")
    try:
        options, overrides = parser.parse_known_args(arguments)
    except SystemExit as leaving:
        if leaving.code and (hint := _nearest_option(parser, arguments)):  # it is missed under its own name
            print(f"facenet-jax: {hint}", file=sys.stderr)
        raise
    if overrides and not getattr(options, "takes_overrides", False):
        hint = _nearest_option(parser, arguments) or f"see facenet-jax {options.command} --help"
        parser.error(f"{overrides[0]}: not understood by `{options.command}`; {hint}")
    if overrides and (hint := _nearest_option(parser, arguments)):
        parser.error(hint)
    if options.command not in _WITHOUT_NETWORKS:
        keep_compiled()
    # Libraries log their own messages at INFO; the user asked for the run's.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        return int(options.run(options, overrides))
    except (InputError, TrainingError, OSError, KeyboardInterrupt) as error:
        code, sentence = told(error) or (1, "")
        print(f"facenet-jax: {sentence}", file=sys.stderr)
        log = None if code == 130 else library_log.place()
        if log:
            print(f"facenet-jax: what libraries and worker processes printed is in {log}", file=sys.stderr)
        return code


def _nearest_option(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> str:
    """Of the first option that a command has not, the one that is nearest to it, in words; empty where none is."""
    command = parser
    for word in arguments:
        below = [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]
        if not below or word not in below[0].choices:
            break
        command = below[0].choices[word]
    known = list(command._option_string_actions)
    words = [word.partition("=")[0] for word in arguments]
    for word in words:
        if word.startswith("--") and not word.startswith("--config.") and word not in known:
            nearest = difflib.get_close_matches(word, known, n=1)
            return f"{word}: there is no such option; did you mean {nearest[0]}?" if nearest else ""
    return ""


def _print_any_name() -> None:
    """Escapes undecodable bytes of file names (\\udcff), so that printing one cannot change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Handlers other than strict are somebody's choice, or the C locale's, which prints the bytes themselves.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command and of all its subcommands."""
    parser = argparse.ArgumentParser(
        prog="facenet-jax",
        description="FaceNet in JAX: train face embeddings with triplets, measure them, and use them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"facenet-jax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
