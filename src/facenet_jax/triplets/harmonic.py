"""The harmonic triplet loss: a new network whose points can be compared with an old one's.

Source: appendix A of the longer report of the paper (arXiv 1503.03832): triplets mix the points of the old network
(v1), which stay as they are, with those of the new one (v2), which learns; a semi-hard negative is taken from all
points of both. Figure 9 there shows the mixtures.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from facenet_jax.triplets.loss import TripletStats, triplet_loss_and_gradient
from facenet_jax.triplets.selection import AxisName


def harmonic_loss_and_gradient(
    new: jax.Array,
    old: jax.Array,
    labels: jax.Array,
    valid: jax.Array | None = None,
    *,
    weight: float = 1.0,
    axis_name: AxisName | None = None,
    **options: Any,
) -> tuple[jax.Array, TripletStats, jax.Array]:
    """(1 - weight) x the triplet loss of the new points alone + weight x the harmonic triplet loss of new and old.

    The harmonic loss takes anchor, positive and negative each from the new points or the old ones: a batch of 2B rows
    in which every face stands twice, row 2i its new point and row 2i + 1 its old one, so that both are a pair too.
    Selection is that of `triplet_loss`, over the whole batch on any mesh, in memory that grows with 2B; where distances
    are equal the lowest row decides. The old points carry no gradient, and triplets of three old points, which would
    have none at all, are left out of the sum.

    Args:
      new: [B, d], the learning network's unit vectors; taken as float32.
      old: [B, d], the old network's unit vectors of the same faces.
      labels, valid: as for `triplet_loss`.
      weight: how much compatibility is asked for, above 0 and up to 1. 1 is the loss of the appendix, of which triplets
        of new points alone are a part; with less these count for more.
      axis_name: as for `triplet_loss`, as are the options: `margin`, `selection`, `divide_by`, `mesh`, `seed`, `step`.
        Each of the two losses is divided by its own count; pairs of the harmonic one are all those of the 2B rows.

    Returns:
      The loss; TripletStats of the 2B rows, but the spread of the new points alone, which tells of their collapse;
      float32 [B, d], the gradient with respect to the new points.

    Raises:
      ValueError: as `triplet_loss`, the weight is out of range, or new and old points have other shapes.
    """
    new, old = jnp.asarray(new), jnp.asarray(old)
    if not 0 < weight <= 1:
        raise ValueError(f"weight is {weight:g}; above 0 and up to 1 is needed")
    if new.ndim != 2 or new.shape != old.shape:
        raise ValueError(f"new points are {list(new.shape)} and old ones {list(old.shape)}; [B, d] is needed of both")
    labels = jnp.asarray(labels)
    valid = jnp.ones(labels.shape, bool) if valid is None else jnp.asarray(valid)
    options |= {"axis_name": axis_name}
    points = _alternating(new.astype(jnp.float32), jax.lax.stop_gradient(old).astype(jnp.float32))
    labels_twice, valid_twice = _alternating(labels, labels), _alternating(valid, valid)
    loss, stats, gradient = triplet_loss_and_gradient(
        points, labels_twice, valid_twice, odd_rows_are_fixed=True, **options
    )
    gradient = gradient.reshape(len(new), 2, -1)[:, 0]
    stats = stats._replace(spread=_spread(new, valid, axis_name))
    if weight == 1:
        return loss, stats, gradient
    alone, _, gradient_alone = triplet_loss_and_gradient(new, labels, valid, **options)
    return (1 - weight) * alone + weight * loss, stats, (1 - weight) * gradient_alone + weight * gradient


def _alternating(even: jax.Array, odd: jax.Array) -> jax.Array:
    """[B, ...] twice -> [2B, ...], a row of either in turn: rows stay on their device, and in one order on any mesh."""
    both = jnp.stack([even, odd], axis=1)
    return both.reshape(-1, *both.shape[2:])


def _spread(points: jax.Array, valid: jax.Array, axis_name: AxisName | None) -> jax.Array:
    """See `TripletStats`."""
    total = jnp.sum(jnp.where(valid[:, None], points.astype(jnp.float32), 0.0), axis=0), jnp.sum(valid)
    of_all, faces = total if axis_name is None else jax.lax.psum(total, axis_name)
    return 1.0 - jnp.sum(of_all**2) / jnp.maximum(faces, 1) ** 2
