"""A network, its evaluations, and a helper that runs a command."""

import pytest

from facenet_jax.cli import main
from networks import linear_network


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """An embedder whose distances depend a little on the person."""
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    linear_network(path, (16, 16), "nhwc", None, d=16)
    return f"onnx:{path}"


@pytest.fixture(scope="module")
def evaluations(photos, network, tmp_path_factory):
    """A folder with results of `evaluate` of uncut faces."""
    out = tmp_path_factory.mktemp("evaluations")
    common = [f"--embedder={network}", f"--data={photos}", f"--out={out}"]
    assert main(["evaluate", "photos", *common, "--far", "0.1", "0.01"]) == 0
    assert main(["evaluate", "identify", *common, "--false-alarms", "0.2"]) == 0
    assert main(["evaluate", "cluster", *common]) == 0
    assert main(["evaluate", "holdout", *common, "--far", "0.1"]) == 0
    return out


@pytest.fixture
def said(capsys):
    """Runs a command: (exit code, output, the last line of standard error)."""

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, error = capsys.readouterr()
        assert "Traceback" not in error
        return code, out, error.strip().splitlines()[-1] if error.strip() else ""

    return run
