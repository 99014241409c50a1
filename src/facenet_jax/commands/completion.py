"""`facenet-jax completion`: prints a completion script for bash or zsh."""

from __future__ import annotations

import argparse
import functools
import shlex
from typing import Any

from facenet_jax.commands.options import add_command, all_parsers

# The first words name a command, and perhaps a protocol; offered are its own words, or else files (-o default).
_BASH = """\
_facenet_jax() {{
    local current=${{COMP_LINE:0:$COMP_POINT}} words=
    current=${{current##*[[:space:]]}}
    if ((COMP_CWORD > 1)); then words=${{COMP_WORDS[1]}}; fi
    if ((COMP_CWORD > 2)); then words="$words ${{COMP_WORDS[2]}}"; fi
    case "$words" in
{cases}
        *) words={top} ;;
    esac
    COMPREPLY=()
    # The shell replaces what follows the last "=" alone.
    local before=
    if [[ $current == *=* ]]; then before=${{current%=*}}=; fi
    local word
    while IFS= read -r word; do COMPREPLY+=("${{word#"$before"}}"); done < <(compgen -W "$words" -- "$current")
}}
complete -o default -F _facenet_jax facenet-jax"""

_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"

_EPILOG = """\
for this shell alone:
  eval "$(facenet-jax completion bash)"
for every shell: put that line into ~/.bashrc, or the same with zsh, after compinit, into ~/.zshrc.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    completion = add_command(
        commands,
        "completion",
        functools.partial(_completion, commands),
        help="print a script with which a shell completes commands and options",
        description="Prints a script with which bash or zsh completes commands, options and config keys.",
        epilog=_EPILOG,
    )
    completion.add_argument("shell", choices=("bash", "zsh"))


def _completion(commands: Any, options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.config import KEYS

    keys = [f"--config.{key.name}=" for key in KEYS]
    cases: list[str] = []
    for name, command in commands.choices.items():
        for path, parser in all_parsers(command, name):
            words = _words(parser) + (keys if parser.get_default("takes_overrides") else [])
            # A protocol comes before the command that it belongs to, whose pattern is wider.
            cases.insert(0, f"        {'|'.join(_patterns(path))}) words={shlex.quote(' '.join(words))} ;;")
    top = " ".join([*commands.choices, "--help", "--version"])
    script = _BASH.format(cases="\n".join(cases), top=shlex.quote(top))
    print((_ZSH if options.shell == "zsh" else "") + script)
    return 0


def _patterns(path: tuple[str, ...]) -> list[str]:
    words = shlex.quote(" ".join(path))
    return [words] if len(path) > 1 else [words, f"{words}\\ *"]


def _words(parser: argparse.ArgumentParser) -> list[str]:
    """The subcommands, options and choices that a parser knows."""
    words: list[str] = []
    for action in parser._actions:
        choices = [str(choice) for choice in action.choices or ()]
        if action.option_strings and action.nargs is None and choices:  # one value
            words += [f"{action.option_strings[-1]}={choice}" for choice in choices]
        words += [*action.option_strings] or choices
    return words
