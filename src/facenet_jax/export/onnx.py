"""Writes a network as an ONNX model, built with `onnx` directly, without a converter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from facenet_jax.export.graph import Graph
from facenet_jax.export.layers import LAYERS, Call
from facenet_jax.models.layers import L2Normalise
from facenet_jax.models.networks import Ensemble, Network

INPUT, OUTPUT = "images", "embeddings"
# Begins the names of nodes for mirror images; no layer of a network has this name.
MIRROR = "mirror"
# Along the columns of [N, rows, columns, 3] from the last to the first.
_BACKWARDS = {"starts": -1, "ends": np.iinfo(np.int64).min, "axes": 2, "steps": -1}


def to_onnx(network: nn.Module, params: Any, size: tuple[int, int], flip: bool = False) -> Any:
    """The network with its parameters, scaling of pixels and L2 normalisation.

    Args:
      network: of this package; the model computes in its dtype, float32 or float16.
      params: its parameters.
      size: (rows, columns) of the input.
      flip: whether each image's mirror image is embedded too, and the mean of both given.

    Returns:
      An onnx.ModelProto: `images`, uint8 RGB [N, rows, columns, 3] -> `embeddings`, float32 [N, d] of norm 1.
    """
    graph = Graph()
    images = graph.input(INPUT, np.uint8)
    pixels = _scaled(graph, _with_mirror_images(graph, images) if flip else images)
    params = jax.tree.map(np.asarray, params)
    # The values between the layers while Flax traces them, and their names in the graph.
    tensors: list[tuple[Any, str]] = []

    def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer, path = context.module, context.module.path
        output = call(*args, **kwargs)
        if context.method_name != "__call__" or isinstance(layer, Network | Ensemble):  # whose layers are the nodes
            return output
        assert type(layer) in LAYERS, f"{'/'.join(path)}: there is no ONNX form of {type(layer).__name__}"
        given = args[0] if isinstance(args[0], list) else [args[0]]
        sources = tuple(next((name for value, name in tensors if value is one), "") for one in given)
        assert all(sources), f"{'/'.join(path)} takes what no layer gave"
        name = "/".join(path)
        LAYERS[type(layer)](graph, Call(layer, name, sources, given[0].shape))
        tensors.append((output, name))
        return output

    def trace(images: jax.Array) -> jax.Array:
        tensors.append((images, pixels))
        with nn.intercept_methods(watch):
            embeddings = network.apply({"params": params}, images)
        assert tensors[-1][0] is embeddings, "the network does something after its last layer"
        return embeddings

    embeddings = jax.eval_shape(trace, jax.ShapeDtypeStruct((1, *size, 3), jnp.float32))
    graph.rename(_mean_of_both(graph, tensors[-1][1], embeddings.shape[1]) if flip else tensors[-1][1], OUTPUT)
    return graph.model([(INPUT, ["N", *size, 3])], [(OUTPUT, ["N", *embeddings.shape[1:]])])


def _with_mirror_images(graph: Graph, images: str) -> str:
    """The images, followed by the mirror images of all."""
    columns = [graph.weight(f"{MIRROR}/{key}", [value], np.int64) for key, value in _BACKWARDS.items()]
    mirrored = graph.add("Slice", [images, *columns], f"{MIRROR}/images")
    return graph.add("Concat", [images, mirrored], f"{MIRROR}/both", axis=0)


def _mean_of_both(graph: Graph, points: str, width: int) -> str:
    """The mean of the points of the images and of their mirror images, on the unit sphere."""
    shape, axis = (
        graph.weight(f"{MIRROR}/shape", [2, -1, width], np.int64),
        graph.weight(f"{MIRROR}/axis", [0], np.int64),
    )
    pairs = graph.add("Reshape", [points, shape], f"{MIRROR}/pairs")
    total = graph.add("ReduceSum", [pairs, axis], f"{MIRROR}/total", keepdims=0)
    LAYERS[L2Normalise](graph, Call(L2Normalise(), f"{MIRROR}/L2", (total,), (1, width)))
    return f"{MIRROR}/L2"


def _scaled(graph: Graph, images: str) -> str:
    """`facenet_jax.models.networks.scale_pixels`, in the layout that is fastest in runtimes."""
    planes = graph.cast(graph.add("Transpose", [images], "pixels/planes", perm=[0, 3, 1, 2]), np.float32)
    half = graph.weight("pixels/half", 127.5)
    one = graph.weight("pixels/one", 1.0)
    return graph.add("Sub", [graph.add("Div", [planes, half], "pixels/to_2"), one], "pixels")
