"""Converts each layer of `facenet_jax.models` to ONNX nodes, where images are [N, channels, rows, columns].

A layer of a new class needs a function and a line in LAYERS. Each computes in the dtype of the Flax layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from facenet_jax.export.graph import Graph
from facenet_jax.models import layers
from facenet_jax.models.layers import Inception

# Ends the name of a convolution that is not one of the network's own.
SUMS = "/sums"
# Ends the name of where the points of several networks are put side by side.
JOINED = "/joined"


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    Attributes:
      layer: bound to its parameters.
      name: its path within the network, which also names its output tensor.
      sources: its input tensors: one, but for `Join`.
      shape: of an input, as in Flax: [N, rows, columns, channels] or [N, features].
    """

    layer: nn.Module
    name: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def source(self) -> str:
        """The only input tensor."""
        (only,) = self.sources
        return only

    def parameters(self, *names: str) -> tuple[NDArray[np.float32], ...]:
        """The layer's parameters; asserts that it has no others, since the file would lack them."""
        found: Mapping[str, Any] = self.layer.variables.get("params", {})
        assert set(found) == set(names), f"{self.name} has the parameters {sorted(found)}, and not {sorted(names)}"
        return tuple(np.asarray(found[name]) for name in names)


def _conv(graph: Graph, call: Call) -> None:
    layer = call.layer
    kernel, bias, *gain = call.parameters("kernel", "bias", *["gain"] * (layer.norm == "weight"))
    if layer.norm == "weight":
        with jax.ensure_compile_time_eval():
            kernel = np.asarray(layers.standardised(jnp.asarray(kernel))) * gain[0]
    inputs = [
        graph.cast(call.source, layer.dtype),
        graph.weight(f"{call.name}/kernel", kernel.transpose(3, 2, 0, 1), layer.dtype),
        graph.weight(f"{call.name}/bias", bias, layer.dtype),
    ]
    y = graph.add("Conv", inputs, f"{call.name}/product", **_window(call.shape, layer.kernel, layer.stride))
    graph.rename(graph.add("Relu", [y], f"{call.name}/relu") if layer.relu else y, call.name)


def _max_pool(graph: Graph, call: Call) -> None:
    graph.add("MaxPool", [call.source], call.name, **_window(call.shape, call.layer.window, call.layer.stride))


def _l2_pool(graph: Graph, call: Call) -> None:
    """By the mean of squares: with LpPool onnxruntime takes 1.6 times as long for the whole of NNS1."""
    x = graph.cast(call.source, np.float32)
    squares = graph.add("Mul", [x, x], f"{call.name}/squares")
    window = _window(call.shape, call.layer.window, call.layer.stride)
    mean = graph.add("AveragePool", [squares], f"{call.name}/mean", count_include_pad=1, **window)
    count = graph.weight(f"{call.name}/count", call.layer.window**2)
    total = graph.add("Mul", [mean, count], f"{call.name}/sum")
    _back(graph, graph.add("Sqrt", [total], f"{call.name}/root"), call)


def _local_response_norm(graph: Graph, call: Call) -> None:
    """x / y^(3/4), y = 2 + 1e-4 * the sum of squares over 5 channels, which is a 1x1 convolution.

    With ONNX's own LRN onnxruntime takes 1.5 times as long for the whole of NNS1.
    """
    x = graph.cast(call.source, np.float32)
    squares = graph.add("Mul", [x, x], f"{call.name}/squares")
    channels = np.arange(call.shape[-1])
    near = np.abs(channels[:, None] - channels) <= 2
    band = graph.weight(f"{call.name}/band", 1e-4 * near[:, :, None, None])
    two = graph.weight(f"{call.name}/two", np.full(len(channels), 2.0))
    y = graph.add("Conv", [squares, band, two], f"{call.name}{SUMS}", kernel_shape=[1, 1])
    root = graph.add("Sqrt", [y], f"{call.name}/root")
    power = graph.add("Mul", [root, graph.add("Sqrt", [root], f"{call.name}/root_of_root")], f"{call.name}/power")
    _back(graph, graph.add("Div", [x, power], f"{call.name}/norm"), call)


def _average_pool(graph: Graph, call: Call) -> None:
    mean = graph.add("GlobalAveragePool", [call.source], f"{call.name}/mean")
    graph.add("Flatten", [mean], call.name)


def _flatten(graph: Graph, call: Call) -> None:
    positions = graph.add("Transpose", [call.source], f"{call.name}/positions", perm=[0, 2, 3, 1])
    graph.add("Flatten", [positions], call.name)


def _dense(graph: Graph, call: Call) -> None:
    layer = call.layer
    kernel, bias = call.parameters("kernel", "bias")
    made = f"{call.name}/product" if layer.relu else call.name
    _product(graph, call, made, kernel, bias)
    if layer.relu:
        graph.add("Relu", [made], call.name)


def _maxout(graph: Graph, call: Call) -> None:
    kernel, bias = call.parameters("kernel", "bias")
    pieces = [
        _product(graph, call, f"{call.name}/{piece}", *both)
        for piece, both in enumerate(zip(kernel, bias, strict=True))
    ]
    graph.add("Max", pieces, call.name)


def _l2_normalise(graph: Graph, call: Call) -> None:
    x = graph.cast(call.source, np.float32)
    squares = graph.add("ReduceSumSquare", [x], f"{call.name}/squares", axes=[1], keepdims=1)
    epsilon = graph.weight(f"{call.name}/epsilon", call.layer.epsilon)
    root = graph.add("Sqrt", [graph.add("Max", [squares, epsilon], f"{call.name}/some")], f"{call.name}/norm")
    graph.add("Div", [x, root], call.name)


def _inception(graph: Graph, call: Call) -> None:
    """Joins the branches, whose layers were converted before."""
    c = call.layer.columns
    branches = ["conv1x1"] * bool(c.conv1x1) + ["conv3x3"] * bool(c.conv3x3) + ["conv5x5"] * bool(c.conv5x5)
    branches += ["project" if c.project else "pool"] * bool(c.pool)
    graph.add("Concat", [f"{call.name}/{branch}" for branch in branches], call.name, axis=1)


def _join(graph: Graph, call: Call) -> None:
    both = graph.add("Concat", list(call.sources), f"{call.name}{JOINED}", axis=1)
    root = graph.weight(f"{call.name}/root", math.sqrt(len(call.sources)))
    graph.add("Div", [both, root], call.name)


LAYERS: dict[type[nn.Module], Callable[[Graph, Call], None]] = {
    layers.Conv: _conv,
    layers.MaxPool: _max_pool,
    layers.L2Pool: _l2_pool,
    layers.LocalResponseNorm: _local_response_norm,
    layers.AveragePool: _average_pool,
    layers.Flatten: _flatten,
    layers.Dense: _dense,
    layers.MaxoutDense: _maxout,
    layers.L2Normalise: _l2_normalise,
    layers.Join: _join,
    Inception: _inception,
}


def _window(shape: tuple[int, ...], size: int, stride: int) -> dict[str, Any]:
    """The attributes of a square window with 'SAME' padding."""
    missing = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in shape[1:3]]
    pads = [m // 2 for m in missing] + [m - m // 2 for m in missing]
    return {"kernel_shape": [size, size], "strides": [stride, stride], "pads": pads}


def _product(graph: Graph, call: Call, name: str, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
    dtype = call.layer.dtype
    inputs = [
        graph.cast(call.source, dtype),
        graph.weight(f"{name}/kernel", kernel, dtype),
        graph.weight(f"{name}/bias", bias, dtype),
    ]
    return graph.add("Gemm", inputs, name)


def _back(graph: Graph, tensor: str, call: Call) -> None:
    """Casts a float32 result to the dtype of the layer's input, and gives it the layer's name."""
    dtype = graph.dtype(call.source)
    graph.rename(graph.cast(tensor, dtype), call.name)
