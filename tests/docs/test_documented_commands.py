"""Every command in the documents is valid: its options, config keys and make targets exist."""

import contextlib
import io
import os
import re
import shlex
import subprocess
from importlib.util import find_spec

import pytest

from documents import BLOCK, MARKED, PAGES, PLACEHOLDERS, ROOT, blocks, commands, known_parsers, options_of, words_of
from facenet_jax.config import KEYS

CONFIG_KEYS = {key.name for key in KEYS}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


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
    # What `make test ARGS=...` passes on must not reach these.
    alone = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "ARGS")}
    for words in lines:
        told = subprocess.run([*words, "-n"], cwd=ROOT, capture_output=True, text=True, env=alone)
        assert told.returncode == 0, f"{words}: {told.stderr}"
        for line in told.stdout.replace("\\\n", " ").splitlines():
            if found := re.match(r"\S*/bin/((?:facenet-jax|python) .*)", line):
                check_whole(words_of(found[1]))
