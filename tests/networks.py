"""Networks for tests: ONNX files of one matrix product, a small table, a saved run."""

import numpy as np
import pytest

from facenet_jax.models.layers import (
    Columns,
    Conv,
    Dense,
    Flatten,
    Inception,
    L2Normalise,
    LocalResponseNorm,
    MaxPool,
)

# Each kind of NNS2's rows once, which takes a fifth of the time to trace and compile.
SMALL_ROWS = (
    ("conv1", Conv, 16, 7, 2),
    ("pool1", MaxPool, 3, 2),
    ("norm1", LocalResponseNorm),
    ("inception2", Inception, Columns(16, 16, 32, 0, 0, "L2", 32)),
    ("pool2", MaxPool, 3, 2),
    ("concat", Flatten),
    ("fc1", Dense, 256, True),
    ("fc2", Dense),
    ("L2", L2Normalise),
)


def linear_network(path, size, layout, batch, open_size=False, value=None, d=4, weights=None):
    """Writes pixels -> pixels @ weights, random by default; returns the weights [rows x columns x 3, d]."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, onnx.TensorProto
    rows, columns = size
    if weights is None:
        weights = np.random.default_rng(5).normal(size=(rows * columns * 3, d)).astype(np.float32)
    weights, d = weights.astype(np.float32), weights.shape[1]
    if value is not None:
        weights[:] = value
    sides = ["rows", "columns"] if open_size else [rows, columns]
    shape = [batch or "n", 3, *sides] if layout == "nchw" else [batch or "n", *sides, 3]
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["pixels"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["points"])],
        "linear",
        [helper.make_tensor_value_info("pixels", kinds.FLOAT, shape)],
        [helper.make_tensor_value_info("points", kinds.FLOAT, [batch or "n", d])],
        [helper.make_tensor("w", kinds.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return weights.astype(np.float64)


def saved_run(workdir, data_path="drawn", steps=(4, 6), **overrides):
    """Writes a working directory with checkpoints of an untrained network; returns it as a string."""
    import jax
    import jax.numpy as jnp

    from facenet_jax import models
    from facenet_jax.config import flatten, load_config
    from facenet_jax.runtime.checkpoints import Checkpoints
    from tiny import TINY

    given = [f"--config.{key}={value}" for key, value in overrides.items()]
    config = load_config("quickstart", [*TINY, f"--config.data.path={data_path}", *given])
    network = models.from_config(config.model)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    rng = np.random.default_rng(config.seed)
    params = jax.tree.map(lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype), shapes)
    checkpoints = Checkpoints(workdir)
    for step in steps:
        checkpoints.save(step, {"params": params}, flatten(config), val=None)
    checkpoints.close()
    return str(workdir)


def distance(network, first, second):
    """The squared distance of two faces by an embedder with inputs of 16x16."""
    from facenet_jax.embedders import open_embedder
    from facenet_jax.images.decode import decode

    one, other = open_embedder(network).embed(np.stack([decode(path, (16, 16)) for path in (first, second)]))
    return float(np.sum((one - other) ** 2))
