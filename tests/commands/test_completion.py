"""The completion script, in a real bash."""

import shutil
import subprocess

import pytest

from facenet_jax.cli import main

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")

# Sets the variables that bash sets before it calls the function.
_TRY = """
COMP_LINE=$1 COMP_POINT=${#1}
read -ra COMP_WORDS <<< "$1"
if [[ $1 == *" " ]]; then COMP_WORDS+=(""); fi
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_facenet_jax
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def offered(tmp_path_factory):
    script = tmp_path_factory.mktemp("completion") / "completion.bash"

    def offered(line, capsys):
        if not script.exists():
            assert main(["completion", "bash"]) == 0
            script.write_text(capsys.readouterr().out)
        command = ["bash", "-c", f"source {script}\n{_TRY}", "bash", line]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert not done.stderr
        return done.stdout.split()

    return offered


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("facenet-jax pre", ["prepare"]),
        ("facenet-jax evaluate hold", ["holdout"]),
        ("facenet-jax evaluate ytf --fr", ["--frames"]),
        ("facenet-jax evaluate holdout --fr", []),
        ("facenet-jax train --config.batch.si", ["--config.batch.size="]),
        ("facenet-jax describe --config.batch.si", []),
        ("facenet-jax export runs/mine --to", ["--to=onnx", "--to=stablehlo", "--to"]),
        ("facenet-jax export runs/mine --to=o", ["onnx"]),  # what follows "=" is replaced
        ("facenet-jax export runs/*", []),
        ("facenet-jax completion ", ["-h", "--help", "bash", "zsh"]),
    ],
)
def test_commands_options_and_config_keys_are_completed(offered, line, words, capsys):
    assert offered(line, capsys) == words


def test_every_command_is_offered(offered, capsys):
    assert {"train", "evaluate", "completion", "--version"} <= set(offered("facenet-jax ", capsys))


def test_zsh_takes_the_same_function(capsys):
    assert main(["completion", "bash"]) == 0
    bash = capsys.readouterr().out
    assert main(["completion", "zsh"]) == 0
    first, _, rest = capsys.readouterr().out.partition("\n")
    assert "bashcompinit" in first
    assert rest == bash
