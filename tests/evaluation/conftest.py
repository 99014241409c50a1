"""A small network for tests of evaluations."""

import pytest

from networks import linear_network


@pytest.fixture
def network(tmp_path):
    """The spec of a linear ONNX network."""
    linear_network(tmp_path / "net.onnx", (8, 6), "nchw", None)
    return f"onnx:{tmp_path / 'net.onnx'},scale=1,mean=128"
