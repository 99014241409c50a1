"""All launch scripts: shellcheck, help, and the dry runs that docs/launch.md shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "launch").rglob("*") if path.suffix in (".sh", ".sbatch")
)
EXAMPLES = re.findall(r"^```console\n\$ (.*?)^```$", (ROOT / "docs/launch.md").read_text(), re.MULTILINE | re.DOTALL)


def test_shellcheck_finds_nothing():
    assert len(SCRIPTS) >= 5
    command = [Path(sys.executable).parent / "shellcheck", "--external-sources", *SCRIPTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", ["slurm.sh", "tpu_vm.sh", "gke/launch.sh"])
def test_help_names_what_each_command_does(launchers, script):
    output = launchers.run(script, "--help")
    for word in ("usage:", "CONFIG", "WORKDIR", "ARGS", "--dry-run", "asks first"):
        assert word in output
    assert launchers.calls() == []
    assert max(map(len, output.splitlines())) <= 120


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: re.search(r"launch/\S+", example)[0])
def test_the_dry_runs_in_the_docs_are_those_printed(launchers, example):
    lines = example.splitlines(keepends=True)
    typed = 1 + next(number for number, line in enumerate(lines) if not line.endswith("\\\n"))
    command = "".join(lines[:typed])
    assert "--dry-run" in command
    settings = {"cwd": launchers.root, "env": launchers.environment}
    done = subprocess.run(["bash", "-c", command], **settings, capture_output=True, text=True, check=True)
    assert done.stdout == "".join(lines[typed:])


def test_the_docs_show_a_dry_run_of_each_launcher():
    shown = " ".join(EXAMPLES)
    for script in ("slurm.sh", "tpu_vm.sh", "gke/launch.sh"):
        assert f"launch/{script} --dry-run" in shown
