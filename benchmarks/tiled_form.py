"""Computes the semi-hard triplet loss in tiled form, as TensorFlow Addons' `triplet_semihard_loss`: the peer in JAX.

All B x B x B comparisons are one matrix [B^2, B], the distances repeated B times, so that masked minima can be taken
and differentiated directly. Memory is cubic in the batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from facenet_jax.triplets import squared_distances


def tiled_semi_hard_loss(embeddings: jax.Array, labels: jax.Array, margin: float = 0.2) -> jax.Array:
    """The mean over anchor-positive pairs of the hinge with their negatives; differentiable by JAX itself.

    The negative of (a, p) is the nearest with D(a, n) > D(a, p), or the farthest of all if there is none: in
    facenet_jax `no_semi_hard="farthest"` and `divide_by="pairs"`.

    Args:
      embeddings: float32 [B, d].
      labels: int32 [B].
      margin: alpha of equation (1).
    """
    batch = embeddings.shape[0]
    distances = squared_distances(embeddings, embeddings)
    same = labels[:, None] == labels[None, :]
    negative = (~same).astype(jnp.float32)

    # Row p * B + a of the tiles belongs to the pair (a, p): the distances from a, to be compared with D(a, p).
    tiles = jnp.tile(distances, (batch, 1))
    farther = jnp.tile(negative, (batch, 1)) * (tiles > distances.T.reshape(-1, 1))
    has_farther = (jnp.sum(farther, axis=1) > 0).reshape(batch, batch).T
    semi_hard = _minimum_where(tiles, farther).reshape(batch, batch).T
    farthest = jnp.tile(-_minimum_where(-distances, negative), (1, batch))
    d_an = jnp.where(has_farther, semi_hard, farthest)

    pairs = same.astype(jnp.float32) - jnp.eye(batch)
    return jnp.sum(jnp.maximum((distances - d_an + margin) * pairs, 0.0)) / jnp.sum(pairs)


def _minimum_where(values: jax.Array, chosen: jax.Array) -> jax.Array:
    """The minimum of the chosen (1, else 0) of each row, [n, 1]: values that are not chosen count as the maximum."""
    highest = jnp.max(values, axis=1, keepdims=True)
    return jnp.min((values - highest) * chosen, axis=1, keepdims=True) + highest
