"""Every command: its --help explains each option, and bad input ends with one sentence and exit code 2."""

import argparse
import subprocess
import sys

import pytest

from facenet_jax import cli
from networks import linear_network
from tiny import TINY

# Arguments with which each command is refused because its input `none` does not exist.
MISSING = {
    "album": ["none", "-o", "out", "--embedder=none"],
    "prepare": ["none", "out"],
    "merge": ["none"],
    "overlap": ["none", "none"],
    "train": ["--config=none"],
    "sweep": ["none"],
    "config": ["none"],
    "describe": ["none"],
    "plan": ["--config=none", "--chip=v5e"],
    "report": ["none"],
    "view": ["none"],
    "embed": ["none", "-o", "e.npz", "--embedder=none"],
    "verify": ["none", "none", "--embedder=none"],
    "enroll": ["none", "index", "--embedder=none"],
    "identify": ["photo.jpg", "none"],
    "cluster": ["none", "-o", "out", "--embedder=none"],
    "audit": ["none", "-o", "out", "--embedder=none"],
    "export": ["none", "--to=onnx", "-o", "x.onnx"],
    "evaluate": ["holdout", "--embedder=none"],
}
# Packages that a command looks for before any file.
FIRST = {"album": ("faiss", "cv2", "onnx"), "export": ("onnx",), "prepare": ("cv2",)}
# Commands that read a config refuse a wrong option after reading it.
FOUND = {
    "train": ["--config=nn1"],
    "sweep": ["networks"],
    "config": ["nn1"],
    "plan": ["--config=nn1", "--chip=v5e"],
}


def parsers() -> dict[str, argparse.ArgumentParser]:
    (commands,) = (a for a in cli.make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(commands.choices)


def test_every_command_is_tried_here():
    assert set(MISSING) == set(parsers()) - {"completion"}  # which reads nothing


@pytest.mark.parametrize("command", sorted(MISSING))
def test_help_explains_the_command_and_each_option(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    parser = parsers()[command]
    assert " ".join((parser.description or "-").split()) in " ".join(said.split())
    for action in parser._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action
        assert action.option_strings or action.metavar or action.dest
        assert all(name in said for name in action.option_strings)


@pytest.mark.parametrize("command", sorted(MISSING))
def test_a_wrong_option_is_refused_in_one_sentence(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code: object
    try:
        code = cli.main([command, *FOUND.get(command, MISSING[command]), "--no-such-option"])
    except SystemExit as end:  # argparse's own
        code = end.code
    assert code == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith("facenet-jax: ")
    assert "--no-such-option" in sentence


@pytest.mark.parametrize("command", sorted(MISSING))
def test_missing_input_is_named_in_one_sentence(command, capsys, tmp_path, monkeypatch):
    for package in FIRST.get(command, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, *MISSING[command]]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    sentence = error.splitlines()[-1]
    assert sentence.startswith("facenet-jax: ")
    assert "none" in sentence
    assert not list(tmp_path.iterdir())  # a refusal leaves nothing


# Refused after their folders are made and their networks opened: no photograph of `bad` can be read.
REFUSED = {
    "album": ["empty", "-o", "a/out"],
    "audit": ["bad", "-o", "a/out"],
    "cluster": ["empty", "-o", "a/out"],
    "embed": ["bad", "-o", "out.npz"],
    "enroll": ["bad", "a/out"],
    "evaluate": ["photos", "--data=bad", "--out=a/out"],
    "prepare": ["empty", "a/out"],
    "train": ["--config=quickstart", *TINY, "--config.init_from=none", "--workdir=a/out"],
}


@pytest.mark.parametrize("command", sorted(REFUSED))
def test_a_command_that_is_refused_late_leaves_nothing_either(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    linear_network(tmp_path / "net.onnx", (16, 16), "nhwc", None)
    for folder in ("empty", "bad/ada", "bad/ben"):
        (tmp_path / folder).mkdir(parents=True)
    for person in ("ada", "ben"):
        for photo in range(2):
            (tmp_path / "bad" / person / f"{photo}.png").write_bytes(b"no picture")
    before = sorted(tmp_path.iterdir())
    network = [] if command in ("prepare", "train") else ["--embedder=onnx:net.onnx", "--crop=none"]
    assert cli.main([command, *REFUSED[command], *network]) == 2
    assert "facenet-jax: " in capsys.readouterr().err
    left = [file for file in tmp_path.rglob("*") if file.parent.name not in ("bad", "ada", "ben")]
    assert sorted(tmp_path.iterdir()) == before, left


@pytest.mark.parametrize(
    ("word", "hint"),
    [("trian", "did you mean train? "), ("evalute", "did you mean evaluate? "), ("xyz", "the commands are")],
)
def test_an_unknown_command_has_the_nearest_named(word, hint, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([word])
    assert end.value.code == 2
    assert f"{word}: there is no such command; {hint}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["train", "--workdri=x"], "--workdri: there is no such option; did you mean --workdir?"),
        (
            ["embed", "a", "-o", "b.npz", "--embeder=a"],
            "--embeder: there is no such option; did you mean --embedder?",
        ),
        (["evaluate", "photos", "--embeder=a"], "--embeder: there is no such option; did you mean --embedder?"),
        (["prepare", "a", "b", "--worker", "2"], "--worker: there is no such option; did you mean --workers?"),
        (["report", "--tittle=x", "a"], "--tittle: there is no such option; did you mean --title?"),
    ],
)
def test_a_mistyped_option_has_the_nearest_named(words, hint, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2
    assert hint in capsys.readouterr().err.splitlines()[-1]


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom facenet_jax import cli\ncli.make_parser().format_help()\n"
        "print(*{'numpy', 'jax', 'flax', 'matplotlib', 'ml_collections'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
