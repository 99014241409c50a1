"""Every command with closed or full output, without environment variables, and in a folder that is read-only."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# The exit code of a command in each surrounding.
CODES = {"closed": 0, "full": 1, "full errors": 0, "pipe": 141, "bare": 0}
COMMANDS = (
    "album", "audit", "cluster", "config", "describe", "embed", "enroll", "evaluate", "export", "identify", "overlap",
    "prepare", "report", "sweep", "train", "verify", "view",
)  # fmt: skip
_KINDS = list(CODES)
# All surroundings for one command, one in turn for each other command, and a read-only folder for all.
WANTED = [
    *(f"embed:{how}" for how in CODES),
    *(f"{name}:{_KINDS[number % len(_KINDS)]}" for number, name in enumerate(COMMANDS) if name != "embed"),
    *(f"{name}:read-only" for name in COMMANDS),
]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    for module in ("faiss", "onnxruntime"):
        pytest.importorskip(module)
    here = Path(__file__).parent
    command = [sys.executable, str(here / "surroundings.py"), str(tmp_path_factory.mktemp("place")), *WANTED]
    paths = os.pathsep.join([str(here.parent), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {f"{one['command']}:{one['surrounding']}": one for one in found}


@pytest.mark.parametrize("what", WANTED)
def test_it_ends_as_it_should_and_leaves_what_it_worked_out(ended, what):
    found, how = ended[what], what.partition(":")[2]
    said = found["said"]
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    if how != "read-only":
        assert found["code"] == CODES[how], said
        assert set(found["outputs"]) <= set(found["left"])
    elif found["outputs"]:
        assert found["code"] in (1, 2), said
        assert found["left"] == []
        last = said.strip().splitlines()[-1]
        assert last.startswith("facenet-jax: ")
        assert "Permission denied" in last
        assert "out" in last
    else:
        assert found["code"] == 0, said
    if how == "full":
        assert said.count("standard output cannot be written (No space left on device)") == 1
