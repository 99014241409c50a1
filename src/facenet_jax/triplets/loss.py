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

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from facenet_jax.mesh import DATA_AXIS
from facenet_jax.triplets.distances import squared_distances

# Anchors whose distances to the whole batch are held at once. A constant, so that memory does not depend on the mesh.
ANCHOR_BLOCK = 128

DIVIDE_BY = ("pairs", "active", "one")


class TripletStats(NamedTuple):
    """What a batch looked like to the loss; scalars, float32.

    Attributes:
      pairs: ordered anchor-positive pairs in the batch.
      triplets: pairs for which a semi-hard negative exists.
      active: triplets inside the margin, those with a loss above 0.
      mean_ap: mean D(a, p) over all anchor-positive pairs.
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
    margin: float = 0.2,
    divide_by: str = "pairs",
) -> tuple[jax.Array, TripletStats]:
    """Triplet loss (equation 2) over all anchor-positive pairs with semi-hard negatives (equation 3).

    For every ordered pair (a, p) of one identity the negative is the nearest face of another identity that is strictly
    farther from the anchor than the positive; among equal distances the lowest index. A pair without such a negative
    is skipped. Differentiable with respect to `embeddings`; selection itself carries no gradient (section 3.2).

    Args:
      embeddings: float32 [B, d], unit vectors, sharded over the mesh's data axis (B a multiple of its size).
      labels: int32 [B], the identity of each face; any order, any counts.
      valid: bool [B]; rows that are False take no part.
      mesh: the mesh whose data axis holds the batch; one device is a mesh of one.
      margin: alpha of equation (1).
      divide_by: what the sum is divided by. `pairs`: the number of anchor-positive pairs, a count that does not change
        as training succeeds, so that the gradient fades with the share of active triplets, as in the paper's sum, yet
        does not grow with the batch: AdaGrad's accumulator starts at a fixed value, against which the gradient's scale
        is measured. `active`: the number of active triplets. `one`: the paper's plain sum.

    Returns:
      The loss, a float32 scalar (0 where no triplet is active), and TripletStats.
    """
    if divide_by not in DIVIDE_BY:
        raise ValueError(f"divide_by is {divide_by!r}; one of {', '.join(DIVIDE_BY)} is needed")
    return _loss(embeddings, labels, valid, mesh, margin, divide_by)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _loss(embeddings, labels, valid, mesh, margin, divide_by):  # type: ignore[no-untyped-def]
    loss, stats, _ = triplet_loss_and_gradient(embeddings, labels, valid, mesh=mesh, margin=margin, divide_by=divide_by)
    return loss, stats


def _loss_forward(embeddings, labels, valid, mesh, margin, divide_by):  # type: ignore[no-untyped-def]
    loss, stats, gradient = triplet_loss_and_gradient(
        embeddings, labels, valid, mesh=mesh, margin=margin, divide_by=divide_by
    )
    return (loss, stats), gradient


def _loss_backward(mesh, margin, divide_by, gradient, cotangents):  # type: ignore[no-untyped-def]
    return gradient * cotangents[0], None, None


_loss.defvjp(_loss_forward, _loss_backward)


def triplet_loss_and_gradient(
    embeddings: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    mesh: Mesh,
    margin: float = 0.2,
    divide_by: str = "pairs",
) -> tuple[jax.Array, TripletStats, jax.Array]:
    """The loss, its stats, and its gradient with respect to the embeddings, in one pass.

    Arguments as in `triplet_loss`. The gradient is float32 [B, d], sharded as the embeddings are; zero in masked rows.
    """
    chex.assert_rank([embeddings, labels, valid], [2, 1, 1])
    chex.assert_equal_shape_prefix([embeddings, labels, valid], 1)
    run = jax.shard_map(
        partial(_on_one_device, margin=margin, divide_by=divide_by),
        mesh=mesh,
        in_specs=(P(DATA_AXIS), P(DATA_AXIS), P(DATA_AXIS)),
        out_specs=(P(), P(), P(DATA_AXIS)),
    )
    return run(embeddings.astype(jnp.float32), labels.astype(jnp.int32), valid)


def _on_one_device(
    anchors: jax.Array, anchor_labels: jax.Array, anchor_valid: jax.Array, *, margin: float, divide_by: str
) -> tuple[jax.Array, TripletStats, jax.Array]:
    """One device's anchors, [A, d], against the whole batch, [B, d]; reduced over the mesh before it returns."""
    # Masked rows get a label that no identity has, so that they are nobody's positive; one gather then carries both.
    nobody = jnp.iinfo(jnp.int32).max
    anchor_labels = jnp.where(anchor_valid, anchor_labels, nobody)
    exemplars = jax.lax.all_gather(anchors, DATA_AXIS, tiled=True)
    labels = jax.lax.all_gather(anchor_labels, DATA_AXIS, tiled=True)
    valid = labels != nobody
    first = jax.lax.axis_index(DATA_AXIS) * anchors.shape[0]
    batch = labels.shape[0]

    # The faces of an identity, in order of index, are by_label[starts:ends]: positives without a B x B mask.
    by_label = jnp.argsort(labels, stable=True)
    sorted_labels = labels[by_label]
    # Anchors go by identity too, so that a block holds few identities and loops no more often than its largest asks.
    rows = jnp.argsort(anchor_labels, stable=True)
    block = min(ANCHOR_BLOCK, rows.shape[0])
    padding = -rows.shape[0] % block
    row_blocks = jnp.pad(rows, (0, padding)).reshape(-1, block)
    real_blocks = jnp.pad(jnp.ones_like(rows, bool), (0, padding)).reshape(-1, block)

    def one_block(carry, inputs):  # type: ignore[no-untyped-def]
        sums, gradient = carry
        row, real = inputs
        anchor, label = anchors[row], anchor_labels[row]
        real &= label != nobody
        index = first + row
        distances = squared_distances(anchor, exemplars)
        is_negative = (label[:, None] != labels[None, :]) & valid[None, :] & real[:, None]
        negatives = jnp.where(is_negative, distances, jnp.inf)
        start = jnp.searchsorted(sorted_labels, label, side="left")
        count = jnp.where(real, jnp.searchsorted(sorted_labels, label, side="right") - start, 0)

        def one_positive(j, carry):  # type: ignore[no-untyped-def]
            sums, weights = carry
            positive = by_label[jnp.minimum(start + j, batch - 1)]
            is_pair = (j < count) & (positive != index)
            d_ap = jnp.take_along_axis(distances, positive[:, None], axis=1)[:, 0]
            semi_hard = jnp.where(negatives > d_ap[:, None], negatives, jnp.inf)
            d_an = jnp.min(semi_hard, axis=1)
            # The first index at that distance: two plain minima are several times faster on CPU than one argmin.
            column = jax.lax.broadcasted_iota(jnp.int32, semi_hard.shape, 1)
            negative = jnp.min(jnp.where(semi_hard == d_an[:, None], column, batch - 1), axis=1)
            is_triplet = is_pair & jnp.isfinite(d_an)
            hinge = jnp.where(is_triplet, jnp.maximum(d_ap - jnp.where(is_triplet, d_an, 0.0) + margin, 0.0), 0.0)
            active = (hinge > 0.0).astype(jnp.float32)
            line = jnp.arange(block)
            weights = weights.at[line, positive].add(active).at[line, negative].add(-active)
            sums = sums + jnp.stack(
                [jnp.sum(x) for x in (hinge, is_pair, is_triplet, active, jnp.where(is_pair, d_ap, 0.0))]
            )
            return sums, weights

        weights = jnp.zeros_like(distances)
        block_sums, weights = jax.lax.fori_loop(0, jnp.max(count), one_positive, (jnp.zeros_like(sums[:5]), weights))
        # Each active triplet puts +1 and -1 into its anchor's line, so the lines of W sum to 0, and the anchor's own
        # term drops out of 2 (sum(W) a - W x).
        precise = jax.lax.Precision.HIGHEST
        to_anchors = -2.0 * jnp.dot(weights, exemplars, precision=precise)
        to_exemplars = 2.0 * (
            jnp.sum(weights, axis=0)[:, None] * exemplars - jnp.dot(weights.T, anchor, precision=precise)
        )
        gradient = (gradient + to_exemplars).at[index].add(to_anchors)
        an_sums = jnp.stack([jnp.sum(jnp.where(is_negative, distances, 0.0)), jnp.sum(is_negative, dtype=jnp.float32)])
        return (sums + jnp.concatenate([block_sums, an_sums]), gradient), None

    zero_sums = jax.lax.pcast(jnp.zeros(7, jnp.float32), DATA_AXIS, to="varying")
    (sums, gradient), _ = jax.lax.scan(one_block, (zero_sums, jnp.zeros_like(exemplars)), (row_blocks, real_blocks))
    gradient = jax.lax.psum_scatter(gradient, DATA_AXIS, tiled=True)
    own = jnp.where(anchor_valid[:, None], anchors, 0.0)
    sums, own_sum, faces = jax.lax.psum((sums, jnp.sum(own, axis=0), jnp.sum(anchor_valid)), DATA_AXIS)
    total, pairs, triplets, active, ap, an, an_count = sums
    divisor = {"pairs": pairs, "active": active, "one": jnp.ones(())}[divide_by]
    # No pair, or no active triplet, is a loss of 0, not 0/0.
    scale = 1.0 / jnp.maximum(divisor, 1.0)
    stats = TripletStats(
        pairs=pairs,
        triplets=triplets,
        active=active,
        mean_ap=ap / jnp.maximum(pairs, 1.0),
        mean_an=an / jnp.maximum(an_count, 1.0),
        spread=1.0 - jnp.sum((own_sum / jnp.maximum(faces, 1)) ** 2),
    )
    return total * scale, stats, gradient * scale
