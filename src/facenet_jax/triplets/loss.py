"""The triplet loss over every anchor-positive pair of the global batch, with its exact gradient.

The loss of equation (2) is a sum of D(a, p) - D(a, n) + margin, so its gradient with respect to the embeddings is
linear in them: one matrix W with W[a, x] = how often D(a, x) enters the sum. Working a block of anchors at a time,
distances, selection, loss and gradient need O(block x batch + batch x d) memory, and two matrix products beyond the
Gram matrix.

On a mesh each device takes its own anchors against all exemplars of the global batch, so that nothing is mined per
device: one all-gather of embeddings and labels, one reduction of the gradient.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from facenet_jax.runtime.mesh import BATCH_AXES
from facenet_jax.triplets.hashing import as_word
from facenet_jax.triplets.selection import (
    DEFAULT,
    Selection,
    blocks_of,
    choose,
    gather,
    groups,
    look_at,
    over_the_mesh,
    sum_of_negatives,
)

DIVIDE_BY = ("pairs", "active", "one")


class TripletStats(NamedTuple):
    """What a batch looked like to the loss; scalars, float32.

    Attributes:
      pairs: ordered anchor-positive pairs that selection looks at: all of the batch, or each anchor's hardest.
      triplets: pairs for which a negative was found.
      active: triplets inside the margin, those with a loss above 0.
      mean_ap: mean D(a, p) over these pairs.
      mean_an: mean D(a, n) over all anchor-negative pairs, selected or not.
      spread: 1 - |mean embedding|^2; 0 when all faces have collapsed to one point.
    """

    pairs: jax.Array
    triplets: jax.Array
    active: jax.Array
    mean_ap: jax.Array
    mean_an: jax.Array
    spread: jax.Array


def triplet_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    mesh: Mesh,
    margin: float | jax.Array = 0.2,
    divide_by: str = "pairs",
    selection: Selection = DEFAULT,
    seed: int | jax.Array = 0,
    step: int | jax.Array = 0,
) -> tuple[jax.Array, TripletStats]:
    """Triplet loss (equation 2) over the triplets that `selection` finds in the global batch.

    By default those are all ordered pairs (a, p) of one identity, each with its semi-hard negative (equation 3): the
    nearest face of another identity that is strictly farther from the anchor than the positive; among equal distances
    the lowest index. A pair without such a negative is skipped. Differentiable with respect to `embeddings`; selection
    itself carries no gradient (section 3.2).

    Args:
      embeddings: [B, d], unit vectors, sharded over the mesh (B a multiple of its size); taken as float32.
      labels: int32 [B], the identity of each face; any order, any counts.
      valid: bool [B]; rows that are False take no part.
      mesh: over which the batch is divided; one device is a mesh of one.
      margin: alpha of equation (1).
      divide_by: what the sum is divided by. `pairs`: the number of anchor-positive pairs, a count that does not change
        as training succeeds, so that the gradient fades with the share of active triplets, as in the paper's sum, yet
        does not grow with the batch: AdaGrad's accumulator starts at a fixed value, against which the gradient's scale
        is measured. `active`: the number of active triplets. `one`: the paper's plain sum.
      selection: which triplets.
      seed: what random negatives are drawn with, together with the step; lowest 32 bits.
      step: the number of the batch.

    Returns:
      The loss, a float32 scalar (0 where no triplet is active), and TripletStats.
    """
    return _loss(embeddings, labels, valid, margin, as_word(seed), as_word(step), mesh, divide_by, selection)


@partial(jax.custom_vjp, nondiff_argnums=(6, 7, 8))
def _loss(embeddings, labels, valid, margin, seed, step, mesh, divide_by, selection):  # type: ignore[no-untyped-def]
    arguments = (embeddings, labels, valid, margin, seed, step, mesh, divide_by, selection)
    return _loss_forward(*arguments)[0]


def _loss_forward(embeddings, labels, valid, margin, seed, step, mesh, divide_by, selection):  # type: ignore[no-untyped-def]
    loss, stats, gradient = triplet_loss_and_gradient(
        embeddings,
        labels,
        valid,
        mesh=mesh,
        margin=margin,
        divide_by=divide_by,
        selection=selection,
        seed=seed,
        step=step,
    )
    return (loss, stats), gradient.astype(embeddings.dtype)


def _loss_backward(mesh, divide_by, selection, gradient, cotangents):  # type: ignore[no-untyped-def]
    return gradient * cotangents[0].astype(gradient.dtype), None, None, None, None, None


_loss.defvjp(_loss_forward, _loss_backward)


def triplet_loss_and_gradient(
    embeddings: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    mesh: Mesh,
    margin: float | jax.Array = 0.2,
    divide_by: str = "pairs",
    selection: Selection = DEFAULT,
    seed: int | jax.Array = 0,
    step: int | jax.Array = 0,
) -> tuple[jax.Array, TripletStats, jax.Array]:
    """The loss, its stats, and its gradient with respect to the embeddings, in one pass.

    Arguments as in `triplet_loss`. The gradient is float32 [B, d], sharded as the embeddings are; zero in masked rows.
    """
    if divide_by not in DIVIDE_BY:
        raise ValueError(f"divide_by is {divide_by!r}; one of {', '.join(DIVIDE_BY)} is needed")
    run = over_the_mesh(
        partial(_on_one_device, divide_by=divide_by, selection=selection), mesh, (P(), P(), P(BATCH_AXES))
    )
    return run(embeddings, labels, valid, margin, seed, step)


def _on_one_device(
    points: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    margin: jax.Array,
    seed: jax.Array,
    step: jax.Array,
    *,
    divide_by: str,
    selection: Selection,
) -> tuple[jax.Array, TripletStats, jax.Array]:
    """One device's rows, [A, d], as anchors against the whole batch; reduced over the mesh before it returns."""
    anchors, exemplars = gather(points, labels, valid)

    def one_block(carry, which_and_real):  # type: ignore[no-untyped-def]
        sums, gradient = carry
        block = look_at(anchors, exemplars, *which_and_real)
        size = block.anchors.rows.shape[0]
        line = jnp.arange(size)

        def one_group(group, carry):  # type: ignore[no-untyped-def]
            sums, weights = carry
            chosen = choose(exemplars, block, group, selection, margin, (seed, step))
            hinge = jnp.where(chosen.is_triplet, jnp.maximum(chosen.d_ap - chosen.d_an + margin, 0.0), 0.0)
            active = (hinge > 0.0).astype(jnp.float32)
            weights = weights.at[line, chosen.positive].add(active, mode="promise_in_bounds")
            weights = weights.at[line, chosen.negative].add(-active, mode="promise_in_bounds")
            ap = jnp.where(chosen.is_pair, chosen.d_ap, 0.0)
            more = [jnp.sum(x, axis=0) for x in (hinge, chosen.is_pair, chosen.is_triplet, active, ap)]
            return sums + jnp.stack(more), weights

        count = groups(selection, jnp.max(block.anchors.faces))
        zeros = jnp.zeros((5, size), jnp.float32), jnp.zeros((size, exemplars.labels.shape[0]), jnp.float32)
        pair_sums, weights = jax.lax.fori_loop(0, count, one_group, jax.lax.pcast(zeros, BATCH_AXES, to="varying"))
        # Each active triplet puts +1 and -1 into its anchor's line, so the lines of W sum to 0, and the anchor's own
        # term drops out of 2 (sum(W) a - W x).
        precise = jax.lax.Precision.HIGHEST
        to_anchors = -2.0 * jnp.dot(weights, exemplars.points, precision=precise)
        to_exemplars = 2.0 * (
            jnp.sum(weights, axis=0)[:, None] * exemplars.points
            - jnp.dot(weights.T, block.anchors.points, precision=precise)
        )
        gradient = (gradient + to_exemplars).at[block.anchors.rows].add(to_anchors)
        negative_sums = jnp.stack(sum_of_negatives(exemplars, block))
        return (sums + jnp.concatenate([jnp.sum(pair_sums, axis=1), negative_sums]), gradient), None

    zero_sums = jax.lax.pcast(jnp.zeros(7, jnp.float32), BATCH_AXES, to="varying")
    zero_gradient = jnp.zeros_like(exemplars.points)
    (sums, gradient), _ = jax.lax.scan(one_block, (zero_sums, zero_gradient), blocks_of(anchors))
    batch = points.shape[0] * jax.lax.axis_size(BATCH_AXES)
    gradient = jax.lax.psum_scatter(gradient[:batch], BATCH_AXES, tiled=True)
    # |sum of embeddings|^2, each device with its own rows: a scalar to add up like the others.
    of_all = jnp.sum(exemplars.points, axis=0)
    of_faces = jnp.stack([jnp.sum(points * of_all), jnp.sum(valid, dtype=jnp.float32)])
    sums = jax.lax.psum(jnp.concatenate([sums, of_faces]), BATCH_AXES)
    total, pairs, triplets, active, ap, an, an_count, square_of_sum, faces = sums
    divisor = {"pairs": pairs, "active": active, "one": jnp.ones(())}[divide_by]
    # No pair, or no active triplet, is a loss of 0, not 0/0.
    scale = 1.0 / jnp.maximum(divisor, 1.0)
    stats = TripletStats(
        pairs=pairs,
        triplets=triplets,
        active=active,
        mean_ap=ap / jnp.maximum(pairs, 1.0),
        mean_an=an / jnp.maximum(an_count, 1.0),
        spread=1.0 - square_of_sum / jnp.maximum(faces, 1.0) ** 2,
    )
    return total * scale, stats, gradient * scale
