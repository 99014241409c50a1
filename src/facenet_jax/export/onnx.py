"""A network as an ONNX model, built with `onnx` itself: no converter, and nothing of the training stack changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from facenet_jax.export.graph import Graph
from facenet_jax.export.layers import LAYERS, Call

INPUT, OUTPUT = "images", "embeddings"


def to_onnx(network: nn.Module, params: Any, size: tuple[int, int]) -> Any:
    """The network with its parameters, scaling of pixels and L2 normalisation.

    Args:
      network: of this package; the model computes in its dtype, float32 or float16.
      params: its parameters.
      size: (rows, columns) of the input.

    Returns:
      An onnx.ModelProto: `images`, uint8 RGB [N, rows, columns, 3] -> `embeddings`, float32 [N, d] of norm 1.
    """
    graph = Graph()
    pixels = _scaled(graph, graph.input(INPUT, np.uint8))
    params = jax.tree.map(np.asarray, params)
    # What flows between the layers while Flax traces them, and the name that it goes by in the graph.
    tensors: list[tuple[Any, str]] = []

    def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer, path = context.module, context.module.path
        output = call(*args, **kwargs)
        if context.method_name != "__call__" or not path:
            return output
        assert type(layer) in LAYERS, f"{'/'.join(path)}: there is no ONNX form of {type(layer).__name__}"
        sources = [name for value, name in tensors if value is args[0]]
        assert sources, f"{'/'.join(path)} takes what no layer gave"
        name = "/".join(path)
        LAYERS[type(layer)](graph, Call(layer, name, sources[0], args[0].shape))
        tensors.append((output, name))
        return output

    def trace(images: jax.Array) -> jax.Array:
        tensors.append((images, pixels))
        with nn.intercept_methods(watch):
            embeddings = network.apply({"params": params}, images)
        assert tensors[-1][0] is embeddings, "the network does something after its last layer"
        return embeddings

    embeddings = jax.eval_shape(trace, jax.ShapeDtypeStruct((1, *size, 3), jnp.float32))
    graph.rename(tensors[-1][1], OUTPUT)
    return graph.model([(INPUT, ["N", *size, 3])], [(OUTPUT, ["N", *embeddings.shape[1:]])])


def _scaled(graph: Graph, images: str) -> str:
    """`facenet_jax.models.networks.scale_pixels`, and the layout that runtimes are fastest in."""
    planes = graph.cast(graph.add("Transpose", [images], "pixels/planes", perm=[0, 3, 1, 2]), np.float32)
    half = graph.weight("pixels/half", 127.5)
    one = graph.weight("pixels/one", 1.0)
    return graph.add("Sub", [graph.add("Div", [planes, half], "pixels/to_2"), one], "pixels")
