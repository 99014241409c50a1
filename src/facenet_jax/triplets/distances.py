"""Squared L2 distances between embeddings."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def squared_distances(anchors: jax.Array, exemplars: jax.Array) -> jax.Array:
    """Squared L2 distances D(a, x) of section 3.1, from a Gram matrix.

    float32 at the highest matmul precision: TPUs, and GPUs with TF32, otherwise round products to a few bits, and
    selection compares distances that differ by little. Clamped at 0, where rounding would go below; no square root is
    taken, so that gradients at distance 0 stay finite.

    Args:
      anchors: [a, d].
      exemplars: [b, d].

    Returns:
      float32 [a, b]; in [0, 4] for unit vectors.
    """
    chex.assert_rank([anchors, exemplars], 2)
    chex.assert_equal_shape_suffix([anchors, exemplars], 1)
    anchors, exemplars = anchors.astype(jnp.float32), exemplars.astype(jnp.float32)
    gram = jnp.dot(anchors, exemplars.T, precision=jax.lax.Precision.HIGHEST)
    norms = jnp.sum(anchors**2, axis=1)[:, None] + jnp.sum(exemplars**2, axis=1)[None, :]
    return jnp.maximum(norms - 2.0 * gram, 0.0)
