"""ONNX Runtime uses as many threads as this process may use cores."""

import pytest

from facenet_jax.embedders import onnx as embedder_onnx
from facenet_jax.embedders.onnx import OnnxInput, open_onnx


def test_threads_follow_the_container_and_not_the_machine(tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["points"])],
        "flat",
        [helper.make_tensor_value_info("images", kind, ["n", 3, 2, 2])],
        [helper.make_tensor_value_info("points", kind, ["n", 12])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    monkeypatch.setattr(embedder_onnx, "usable_cores", lambda: 3)
    opened = open_onnx(tmp_path / "net.onnx", OnnxInput())
    assert opened._session.get_session_options().intra_op_num_threads == 3
