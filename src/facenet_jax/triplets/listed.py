"""The loss over triplets that are given, one after another in the batch, as offline selection makes them."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from facenet_jax.runtime.mesh import over_batch, replicated
from facenet_jax.triplets.loss import TripletStats


def listed_loss_and_gradient(
    embeddings: jax.Array, valid: jax.Array, *, mesh: Mesh, margin: float | jax.Array, divide_by: str = "pairs"
) -> tuple[jax.Array, TripletStats, jax.Array]:
    """Equation (2) over the triplets in rows (0, 1, 2), (3, 4, 5), ...: anchor, positive, negative.

    Args:
      embeddings: [B, d], sharded over the mesh; rows beyond the last whole triplet take no part.
      valid: bool [B]; a triplet takes part if all its rows are True.
      mesh: over which the batch is divided.
      margin: alpha of equation (1).
      divide_by: `pairs` and `active` as in `triplet_loss`, where each triplet has one pair; `one`: the plain sum.

    Returns:
      The loss; TripletStats, in which mean_an is that of these triplets; float32 [B, d], the gradient with respect to
      the embeddings.
    """
    chex.assert_rank([embeddings, valid], [2, 1])
    # B x d is little, and triplets lie across the borders of devices: every device takes all of them.
    points = jnp.where(valid[:, None], embeddings.astype(jnp.float32), 0.0)
    points = jax.lax.with_sharding_constraint(points, replicated(mesh))
    (loss, stats), gradient = jax.value_and_grad(_loss, has_aux=True)(points, valid, margin, divide_by)
    return loss, stats, jax.lax.with_sharding_constraint(gradient, over_batch(mesh))


def _loss(
    points: jax.Array, valid: jax.Array, margin: float | jax.Array, divide_by: str
) -> tuple[jax.Array, TripletStats]:
    count = points.shape[0] // 3
    anchor, positive, negative = jnp.moveaxis(points[: 3 * count].reshape(count, 3, -1), 1, 0)
    whole = jnp.all(valid[: 3 * count].reshape(count, 3), axis=1)
    d_ap = jnp.sum((anchor - positive) ** 2, axis=1)
    d_an = jnp.sum((anchor - negative) ** 2, axis=1)
    hinge = jnp.where(whole, jnp.maximum(d_ap - d_an + margin, 0.0), 0.0)
    triplets, active = jnp.sum(whole, dtype=jnp.float32), jnp.sum(hinge > 0, dtype=jnp.float32)
    at_least_one = jnp.maximum(triplets, 1.0)
    divisor = {"pairs": at_least_one, "active": jnp.maximum(active, 1.0), "one": jnp.ones(())}[divide_by]
    faces = jnp.maximum(jnp.sum(valid, dtype=jnp.float32), 1.0)
    stats = TripletStats(
        pairs=triplets,
        triplets=triplets,
        active=active,
        mean_ap=jnp.sum(jnp.where(whole, d_ap, 0.0)) / at_least_one,
        mean_an=jnp.sum(jnp.where(whole, d_an, 0.0)) / at_least_one,
        spread=1.0 - jnp.sum((jnp.sum(points, axis=0) / faces) ** 2),
    )
    return jnp.sum(hinge) / divisor, jax.lax.stop_gradient(stats)
