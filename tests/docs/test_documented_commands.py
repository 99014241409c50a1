"""Every command in the documents is valid: its options, config keys and make targets exist."""

import contextlib
import functools
import io
import re
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from facenet_jax.cli import make_parser
from facenet_jax.commands.options import all_parsers
from facenet_jax.config import KEYS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks" / "results").glob("*.md")])
CONFIG_KEYS = {key.name for key in KEYS}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
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


def keys_are_known(words):
    for key in re.findall(r"--config\.([a-z0-9_.]+)=", " ".join(words)):
        assert key in CONFIG_KEYS, f"there is no config.{key}"


def check_whole(words):
    """Asserts that argparse accepts a whole command."""
    keys_are_known(words)
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        assert set(targets) <= TARGETS, f"no such target: {words}"
    elif words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
        assert find_spec(words[2]), f"there is no {words[2]}"
    elif words[0].startswith(("launch/", "docs/", "benchmarks/")):
        assert (ROOT / words[0]).exists()
    elif words[0] == "facenet-jax" and not PLACEHOLDERS & set(words):
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                options, rest = known_parsers()[()].parse_known_args(words[1:])
        except SystemExit as end:
            if end.code:
                pytest.fail(f"{shlex.join(words)}: {said.getvalue().splitlines()[-1]}")
        else:
            assert getattr(options, "takes_overrides", False) or not rest, f"{shlex.join(words)}: {rest}"
            assert all(word.startswith("--config.") for word in rest), f"{shlex.join(words)}: {rest}"


def check_named(words):
    """Asserts that a command named in a sentence, perhaps in part, exists and has the options named."""
    keys_are_known(words)
    if words[0] == "make":
        assert set(words[1:2]) <= TARGETS, f"no such target: {words}"
    if words[0] != "facenet-jax" or len(words) < 2 or PLACEHOLDERS & set(words):
        return
    parsers = known_parsers()
    path = tuple(words[1:3]) if tuple(words[1:3]) in parsers else tuple(words[1:2])
    if words[1].startswith("-"):
        path = ()
    assert path in parsers, f"there is no `facenet-jax {words[1]}`"
    known = options_of(path)
    for word in words[1:]:
        option = word.partition("=")[0]
        if option.startswith("-") and not option.startswith("--config."):
            assert option in known, f"`facenet-jax {' '.join(path)}` has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_understood(page):
    text = page.read_text()
    for line in blocks(text):
        words = words_of(line)
        if words and (words[0] in ("facenet-jax", "make", "python") or words[0].startswith("launch/")):
            check_whole(words)
    for span in re.findall(r"`((?:facenet-jax|make) [^`\n]+)`", BLOCK.sub("", text)):
        check_named(words_of(span))


def test_wrong_commands_are_found():
    for line in ("facenet-jax train --workdir=a --confg=b", "make no-such-target", "facenet-jax embed photos"):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check_whole(words_of(line))
    with pytest.raises(AssertionError, match="there is no config"):
        check_whole(words_of("facenet-jax train --config=nn1 --config.batch.sise=3 --workdir=a"))
    with pytest.raises(AssertionError, match="has no --scale"):
        check_named(words_of("facenet-jax embed --scale"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_drawn_faces_are_not_enough_for_is_marked(page):
    text = page.read_text()
    for words, why in commands(text):
        assert why or words[0] == "facenet-jax", f"{shlex.join(words)}: say before the block why it cannot be run"
    marks = [(whole[0], why) for whole in MARKED.finditer(text) if (why := whole[2])]
    assert len(re.findall("^<!-- not run", text, re.MULTILINE)) == len(marks)
    for whole, why in marks:
        assert any(given == why for _, given in commands(whole)), f"{page.name}: nothing is left out: {why}"


def test_what_make_would_run_is_understood():
    lines = {tuple(words) for page in PAGES for words, _ in commands(page.read_text()) if words[0] == "make"}
    assert len(lines) > 10
    for words in lines:
        told = subprocess.run([*words, "-n"], cwd=ROOT, capture_output=True, text=True)
        assert told.returncode == 0, f"{words}: {told.stderr}"
        for line in told.stdout.replace("\\\n", " ").splitlines():
            if found := re.match(r"\S*/bin/((?:facenet-jax|python) .*)", line):
                check_whole(words_of(found[1]))
