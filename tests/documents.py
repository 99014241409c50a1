"""The commands in the documents, and what each block of them says about being run."""

import functools
import re
import shlex
from pathlib import Path

from facenet_jax.cli import make_parser
from facenet_jax.commands.options import all_parsers

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks" / "results").glob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# A block whose commands no test can run says why; with words in brackets, those of its commands that begin with one.
MARKED = re.compile(r"(?:<!-- not run(?: \(([^)]+)\))?: ([^>]+) -->\n+)?^(```(\w*)\n.*?^```)", re.DOTALL | re.MULTILINE)
# Placeholders that the reader fills in.
PLACEHOLDERS = {"PROTOCOL", "COMMAND", "..."}


@functools.cache
def known_parsers():
    return dict(all_parsers(make_parser()))


def options_of(path):
    """The options of a command and of its subcommands, since `evaluate --out` may be named without a protocol."""
    below = (parser for words, parser in known_parsers().items() if words[: len(path)] == path)
    return {option for parser in below for option in parser._option_string_actions}


def blocks(text):
    """The lines of the blocks of commands, continued ones joined."""
    for language, code in BLOCK.findall(text):
        if language in ("", "shell", "bash"):
            yield from code.replace("\\\n", " ").splitlines()


def commands(text):
    """The words of each command in the blocks of a page, and why no test can run it, or None."""
    for only, why, block, _ in MARKED.findall(text):
        for line in blocks(block):
            for part in line.partition("  #")[0].split(" && "):
                words = words_of(part)
                if words and re.match(r"(facenet-jax|make|python|\.venv/bin/python|launch/\S+)$", words[0]):
                    marked = why and (not only or part.startswith(tuple(only.split(", "))))
                    yield words, why if marked else None


def words_of(line):
    """The words of a command, with 1 for shell variables, and without assignments before the command."""
    line = re.sub(r"(&&|;|\|) .*", "", line) if not re.search("[\"']", line) else line
    words = shlex.split(re.sub(r"\$\{?\w+\}?", "1", line), comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words
