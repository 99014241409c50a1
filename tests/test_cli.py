"""The command line: help, refusals and exit codes."""

import os
import subprocess
import sys

import pytest

from evaluating import refused
from facenet_jax import __version__, models
from facenet_jax.cli import main
from facenet_jax.training import loop, preflight
from tiny import TINY


@pytest.mark.parametrize(
    "command", ["", "train", "describe", "config", "evaluate", "report", "embed", "verify", "enroll", "identify"]
)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    assert "usage: facenet-jax" in capsys.readouterr().out


@pytest.mark.parametrize(
    "protocol", ["holdout", "photos", "lfw", "pairs", "ytf", "robustness", "compact", "identify", "cluster"]
)
def test_every_protocol_has_help(protocol, capsys):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", protocol, "--help"])
    assert end.value.code == 0
    assert "--embedder" in capsys.readouterr().out


def test_the_version_and_the_module():
    command = [sys.executable, "-m", "facenet_jax", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"facenet-jax {__version__}\n"


def test_an_unknown_platform_is_refused_in_one_sentence(tmp_path):
    command = [sys.executable, "-m", "facenet_jax", "train", "--config=quickstart", f"--workdir={tmp_path / 'run'}"]
    found = subprocess.run(
        command, env=os.environ | {"JAX_PLATFORMS": "none"}, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    assert line.startswith("facenet-jax: JAX_PLATFORMS=none: JAX cannot use that here")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_describe_ends_with_the_total(name, capsys):
    assert main(["describe", name]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    parameters, multiply_adds = models.totals(models.build(name), models.NETWORKS[name].input_size)
    assert last.startswith("total")
    assert f"{parameters:,}" in last
    assert f"{multiply_adds:,}" in last


def test_describe_prints_the_bytes_on_each_device(capsys):
    assert main(["describe", "nn1", "--mesh=data=4,fsdp=2"]) == 0
    parameters, sums, together = capsys.readouterr().out.splitlines()[-3:]
    # 136M of the 140M parameters are in layers that are divided.
    assert parameters.split()[-2:] == sums.split()[-2:]
    own, whole = (int(number.replace(",", "")) for number in together.split()[-2:])
    assert whole == 2 * 4 * 140_025_664
    assert 0.5 < own / whole < 0.51
    with pytest.raises(SystemExit):
        main(["describe", "nn1", "--mesh=4x2"])
    assert "data=4,fsdp=2" in capsys.readouterr().err


def test_describe_takes_options(capsys):
    assert main(["describe", "nn4", "--input-size=128x96", "--embedding-size=64", "--five-by-five=none"]) == 0
    assert "5x5," not in capsys.readouterr().out
    assert "did you mean 'nn4'" in refused(capsys, "describe", "nn44")
    assert "at least 32" in refused(capsys, "describe", "nn4", "--input-size=16x16")
    with pytest.raises(SystemExit) as end:
        main(["describe", "nn4", "--input-size=wide"])
    assert end.value.code == 2
    with pytest.raises(SystemExit) as end:
        main(["describe", "nn4", "--config.loss.margin=1"])
    assert end.value.code == 2


def test_config_prints_keys_values_and_meanings(capsys):
    assert main(["config", "nn1", "--config.loss.margin=0.1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "--config.loss.margin=0.1" in out
    assert "--config.model.name=nn1" in out
    assert out[out.index("--config.loss.margin=0.1") + 1].split() == (
        ["alpha,", "in", "squared", "distance;", "between", "0", "and", "4", "(equation", "(1))"]
    )


class TestBadInputToTrain:
    def train(self, capsys, tmp_path, *overrides, workdir=None):
        workdir = workdir or tmp_path / "run"
        return refused(capsys, "train", "--config=quickstart", f"--workdir={workdir}", *TINY, *overrides)

    def test_folders(self, capsys, tmp_path):
        assert "does not exist" in self.train(capsys, tmp_path, f"--config.data.path={tmp_path / 'none'}")
        (tmp_path / "empty").mkdir()
        assert "no folder with images" in self.train(capsys, tmp_path, f"--config.data.path={tmp_path / 'empty'}")
        (tmp_path / "file").write_text("")
        assert "not a folder" in self.train(capsys, tmp_path, f"--config.data.path={tmp_path / 'file'}")
        for person in ("a", "b", "c"):
            (tmp_path / "singles" / person).mkdir(parents=True)
            (tmp_path / "singles" / person / "1.jpg").write_bytes(b"")
        assert "two images" in self.train(capsys, tmp_path, f"--config.data.path={tmp_path / 'singles'}")

    def test_fewer_faces_than_a_batch(self, capsys, tmp_path, photos):
        error = self.train(capsys, tmp_path, f"--config.data.path={photos}", "--config.batch.size=180")
        assert "fewer than one batch of 180" in error

    def test_a_folder_to_evaluate_on(self, capsys, tmp_path):
        assert "does not exist" in self.train(capsys, tmp_path, f"--config.eval.path={tmp_path / 'none'}")

    def test_values(self, capsys, tmp_path):
        assert "did you mean" in self.train(capsys, tmp_path, "--config.los.margin=1")
        assert "steps=many" in self.train(capsys, tmp_path, "--config.steps=many")
        assert "64 to 512" in self.train(capsys, tmp_path, "--config.model.embedding_size=32")
        assert "there are 8 cpu devices" in self.train(capsys, tmp_path, "--config.mesh.data=9")
        assert "no choice of 5x5" in self.train(capsys, tmp_path, "--config.model.five_by_five=none")
        assert "at least 32" in self.train(capsys, tmp_path, "--config.model.input_size=(8, 8)")
        assert "count from 1" in refused(capsys, "train", "--trace=0", f"--workdir={tmp_path}")

    def test_working_directories(self, capsys, tmp_path):
        (tmp_path / "file").write_text("")
        assert "cannot be written" in self.train(capsys, tmp_path, workdir=tmp_path / "file")
        assert "cannot be written" in self.train(capsys, tmp_path, workdir=tmp_path / "file" / "below")
        assert "cannot be written" in self.train(capsys, tmp_path, workdir="/proc/facenet")

    def test_a_batch_that_does_not_fit(self, capsys, tmp_path, monkeypatch):
        monkeypatch.setattr(preflight, "_bytes_available", lambda mesh: 6 * 2**20)
        sentence = self.train(capsys, tmp_path)
        assert "a step needs" in sentence
        assert "6.0 MiB are free; set --config.batch.chunk=" in sentence
        assert not (tmp_path / "run" / "run.json").exists()
        chunk = sentence.split("batch.chunk=")[1].split(",")[0]
        monkeypatch.setattr(loop, "create_state", lambda *_: pytest.skip("it fits"))
        with pytest.raises(pytest.skip.Exception, match="it fits"):
            main(["train", f"--workdir={tmp_path / 'run'}", *TINY, f"--config.batch.chunk={chunk}"])


def test_evaluate_needs_a_run(capsys, tmp_path):
    assert "does not exist; give the working directory of a run" in refused(
        capsys, "evaluate", "holdout", f"--embedder={tmp_path}"
    )
