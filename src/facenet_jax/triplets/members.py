"""The loss of an ensemble: each member's points have their own triplets."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from facenet_jax.triplets.loss import TripletStats

# From embeddings [B, d] to the loss, its figures, and the gradient with respect to the embeddings.
Loss = Callable[[jax.Array], tuple[jax.Array, TripletStats, jax.Array]]


def of_each_member(loss: Loss, members: int) -> Loss:
    """The same loss of each member's points alone, so that a member learns as it would without the others.

    Triplets that are selected follow the member's own distances: what is hard for one may be easy for another. Listed
    ones, of offline selection, were found by the distances of whole embeddings, the same for all.

    Args:
      loss: of one network's unit vectors.
      members: networks that have an equal share of an embedding each, see `facenet_jax.models.networks.Ensemble`.

    Returns:
      A function of embeddings [B, d]. Its loss and figures are the members' means, to be read as those of one network,
      but the spread is the smallest, since the mean would hide a member that collapses. Its gradient is that of the sum
      of the members' losses, as each would have it alone: `members` times that of the loss returned.
    """
    if members == 1:
        return loss
    root = math.sqrt(members)  # a member's share of an embedding has the norm 1 / root

    def of_all(embeddings: jax.Array) -> tuple[jax.Array, TripletStats, jax.Array]:
        shares = jnp.split(root * embeddings, members, axis=1)
        losses, figures, gradients = zip(*map(loss, shares), strict=True)
        mean_loss, means = jax.tree.map(lambda *each: sum(each) / members, *zip(losses, figures, strict=True))
        means = means._replace(spread=jnp.min(jnp.stack([own.spread for own in figures])))
        return mean_loss, means, root * jnp.concatenate(gradients, axis=1)

    return of_all
