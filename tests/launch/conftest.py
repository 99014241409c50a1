"""Fixtures: a copy of the launchers in a repository of its own, with stand-ins that record their arguments."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("gcloud", "sbatch", "srun", "squeue", "scontrol", "scancel", "kubectl", "docker", "sleep", "tail")

# Records its name and arguments and prints the answers prepared for it, in turn; srun then runs its command.
STAND_IN = """#!{python} -S
import json, os, sys
from pathlib import Path
here = Path({folder!r})
name, words = Path(sys.argv[0]).name, sys.argv[1:]
with open(here / "calls.jsonl", "a") as calls:
    calls.write(json.dumps([name, *words]) + "\\n")
prepared = json.loads((here / "answers.json").read_text())
for answer in prepared:
    if answer["to"] in " ".join([name, *words]) and answer["says"]:
        text, code = answer["says"].pop(0)
        (here / "answers.json").write_text(json.dumps(prepared))
        print(text, flush=True)
        sys.exit(code)
if name == "srun":
    command = words[next(i for i, word in enumerate(words) if not word.startswith("--")):]
    os.execvp(command[0], command)
"""


class Launchers:
    """Runs launch scripts with stand-ins for all outside commands."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.root = folder / "repository"
        self.environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
        shutil.copytree(ROOT / "launch", self.root / "launch", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "bin").mkdir()
        for name in NAMES:
            stand_in = folder / "bin" / name
            stand_in.write_text(STAND_IN.format(python=sys.executable, folder=str(folder)))
            stand_in.chmod(0o755)
        self.answers = []
        self.git("init", "--quiet")
        self.git("add", ".")
        self.git("-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message=launchers")

    def git(self, *words: str) -> None:
        subprocess.run(["git", *words], cwd=self.root, env=self.environment, check=True, capture_output=True)

    def answer(self, to: str, *says: str | tuple[str, int]) -> None:
        """Sets the answers of commands that contain `to`, in turn: a text, or a text and an exit code."""
        self.answers.append({"to": to, "says": [(s, 0) if isinstance(s, str) else s for s in says]})

    def prepare(self) -> None:
        (self.folder / "answers.json").write_text(json.dumps(self.answers))
        (self.folder / "calls.jsonl").write_text("")

    def run(self, script: str, *words: str, typed: str = "", code: int = 0, **environment: str):
        """Runs launch/SCRIPT; returns what it printed, and asserts its exit code."""
        self.prepare()
        done = subprocess.run(
            [f"launch/{script}", *words],
            cwd=self.root,
            env=self.environment | environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def calls(self) -> list[list[str]]:
        """The commands that reached the stand-ins since the last run."""
        return [json.loads(line) for line in (self.folder / "calls.jsonl").read_text().splitlines()]


def printed_commands(output: str) -> list[list[str]]:
    """The commands that a script printed, as words of a shell, without the contents of files."""
    commands, ends = [], None
    for line in output.splitlines():
        if ends:
            ends = None if line == "END" else ends
        elif line.startswith("+ cat > "):
            ends = "END"
        elif line.startswith("+ "):
            commands.append(shlex.split(line[2:].split(" < ")[0]))
    return commands


@pytest.fixture
def launchers(tmp_path) -> Launchers:
    return Launchers(tmp_path)


@pytest.fixture(scope="session")
def shared_launchers(tmp_path_factory) -> Launchers:
    """For tests that run many examples and prepare no answers."""
    return Launchers(tmp_path_factory.mktemp("launchers"))


@pytest.fixture(scope="session")
def commands():
    return printed_commands


def recorder(path: Path, code: int = 0) -> None:
    """Writes a program that records its arguments in `<path>.words`, one on each line, and ends with a code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {shlex.quote(str(path))}.words\nexit {code}\n')
    path.chmod(0o755)


@pytest.fixture(scope="session")
def make_recorder():
    return recorder
