"""Writes a network as StableHLO by jax.export, for CPU, GPU and TPU."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import export

from facenet_jax.errors import InputError, how_to_install
from facenet_jax.models.networks import apply_network, apply_network_flipped

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(network: nn.Module, params: Any, size: tuple[int, int], flip: bool = False) -> bytes:
    """The network with its parameters, scaling of pixels and L2 normalisation.

    Args:
      network: of this package; computes in its dtype, float32 or float16, and keeps its parameters in that.
      params: its parameters.
      size: (rows, columns) of the input.
      flip: whether each image's mirror image is embedded too, and the mean of both given.

    Returns:
      Bytes for `jax.export.deserialize`: uint8 RGB [N, rows, columns, 3] -> float32 [N, d] of norm 1, any N.

    Raises:
      InputError: flatbuffers, with which JAX writes such files, is not installed.
    """
    try:
        import flatbuffers  # noqa: F401  JAX imports it only at the end
    except ImportError as error:
        raise InputError(f"StableHLO files need flatbuffers: {how_to_install('onnx')}.") from error
    kept = jax.tree.map(lambda x: jnp.asarray(x, network.dtype), params)
    (images,) = export.symbolic_shape("N")
    taken = jax.ShapeDtypeStruct((images, *size, 3), jnp.uint8)
    embed = jax.jit(partial(apply_network_flipped if flip else apply_network, network, kept))
    return bytes(export.export(embed, platforms=PLATFORMS)(taken).serialize())
