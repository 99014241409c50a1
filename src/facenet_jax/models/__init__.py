"""The networks of section 3.3 as pure functions: pixels to points on the unit sphere.

    network = build("nn4")
    parameters = network.init(jax.random.key(0), jnp.zeros((1, 96, 96, 3)))
    embeddings = network.apply(parameters, pixels)

Every network takes pixels in [-1, 1], float32 [N, rows, columns, 3], and gives float32 embeddings [N, d] of norm 1.
"""

from facenet_jax.models.describe import Row, describe, format_table, totals
from facenet_jax.models.layers import NORMS
from facenet_jax.models.networks import (
    DTYPES,
    NETWORKS,
    NetworkSpec,
    apply_network,
    build,
    check_input_size,
    from_config,
    in_dtype,
    scale_pixels,
)

__all__ = [
    "DTYPES",
    "NETWORKS",
    "NORMS",
    "NetworkSpec",
    "Row",
    "apply_network",
    "build",
    "check_input_size",
    "describe",
    "format_table",
    "from_config",
    "in_dtype",
    "scale_pixels",
    "totals",
]
