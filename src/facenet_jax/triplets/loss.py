"""The triplet loss over every anchor-positive pair of the global batch, with its exact gradient.

`plain_triplet_loss` says what is computed; `triplet_loss` does the same in little memory and on many devices.

The loss of equation (1) is a sum of D(a, p) - D(a, n) + margin, so its gradient with respect to the embeddings is
linear in them: one matrix W with W[a, x] = how often D(a, x) enters the sum. Working a block of anchors at a time,
distances, selection, loss and gradient need O(block x batch + batch x d) memory, and two matrix products beyond the
Gram matrix.

On a mesh each device takes its own anchors against all exemplars of the global batch, so that nothing is mined per
device: one all-gather of embeddings and labels, one reduction of the gradient.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from facenet_jax.runtime.mesh import over_batch, replicated
from facenet_jax.triplets.selection import (
    DEFAULT,
    Anchors,
    AxisName,
    Exemplars,
    Selection,
    Tiling,
    axes_of,
    block_distances,
    blocks_of,
    choose,
    groups,
    on_whole_batch,
    sum_of_negatives,
)

DIVIDE_BY = ("pairs", "active", "one")


def plain_triplet_loss(embeddings: jax.Array, labels: jax.Array, margin: float = 0.2) -> jax.Array:
    """Equation (1) with the semi-hard negatives of section 3.2, as it is read: what `triplet_loss` gives by default.

    Its memory grows with B^3 and equal distances share the gradient; it is here to be read and to test against.
    """
    distance = jnp.sum((embeddings[:, None] - embeddings) ** 2, axis=-1)  # D(a, x), [B, B]
    same = labels[:, None] == labels
    is_pair = same & ~jnp.eye(len(labels), dtype=bool)
    d_ap, to_negatives = distance[:, :, None], distance[:, None, :]  # [a, p, n]
    semi_hard = ~same[:, None, :] & (to_negatives > d_ap)
    d_an = jnp.min(jnp.where(semi_hard, to_negatives, jnp.inf), axis=-1)  # of each pair; infinite where there is none
    hinge = jnp.where(is_pair, jnp.maximum(distance - d_an + margin, 0.0), 0.0)
    return jnp.sum(hinge) / jnp.maximum(jnp.sum(is_pair), 1)


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
    valid: jax.Array | None = None,
    *,
    margin: float | jax.Array = 0.2,
    selection: Selection = DEFAULT,
    divide_by: str = "pairs",
    mesh: Mesh | None = None,
    axis_name: AxisName | None = None,
    seed: int | jax.Array = 0,
    step: int | jax.Array = 0,
) -> tuple[jax.Array, TripletStats]:
    """The triplet loss over the triplets that `selection` finds in the whole batch.

      sum over (a, p, n) of max(0, D(a, p) - D(a, n) + margin) / pairs,  D(x, y) = |x - y|^2

    By default (a, p, n) are all ordered pairs (a, p) of one identity, each with its semi-hard negative: the nearest
    face of another identity that is strictly farther from the anchor than the positive; among equal distances the
    lowest index. A pair without such a negative is skipped. Differentiable with respect to `embeddings`; selection
    carries no gradient (section 3.2). Works under jit, grad, shard_map and vmap. `plain_triplet_loss` is the same in
    ten lines.

    Args:
      embeddings: [B, d], unit vectors; taken as float32.
      labels: integers [B], the identity of each face; any order, any counts.
      valid: bool [B]; rows that are False take no part. By default all do.
      margin: alpha of equation (1).
      selection: which positives, which negatives; see Selection.
      divide_by: what the sum is divided by. `pairs`: the number of anchor-positive pairs, a count that does not change
        as training succeeds, so that the gradient fades with the share of active triplets, as in the paper's sum, yet
        does not grow with the batch: AdaGrad's accumulator starts at a fixed value, against which the gradient's scale
        is measured. `active`: the number of active triplets. `one`: the paper's plain sum.
      mesh: divides the rows over all of its devices (B a multiple of their number). Without it the rows are where the
        program around has them.
      axis_name: inside a shard_map, the mesh axis or axes that the rows are divided over: embeddings, labels and valid
        are one device's, triplets and the loss those of the whole batch.
      seed: what random negatives are drawn with, together with step; lowest 32 bits.
      step: likewise.

    Returns:
      The loss, a float32 scalar (0 where no triplet is active), and TripletStats: use `has_aux=True` with jax.grad.

    Raises:
      ValueError: shapes, types or names that do not go together.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> points = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [-1.0, 0.0]])
      >>> labels = jnp.array([7, 7, 8, 9])
      >>> (loss, stats), gradient = jax.value_and_grad(triplet_loss, has_aux=True)(points, labels, margin=0.5)
      >>> print(f"{loss:.2f}, {int(stats.active)} of {int(stats.pairs)} pairs are active", gradient.shape)
      0.05, 1 of 2 pairs are active (4, 2)

    Reference: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, equations (1) to (3).
    """
    batch = {"labels": labels, "valid": valid, "margin": margin, "seed": seed, "step": step}
    run = partial(triplet_loss_and_gradient, selection=selection, divide_by=divide_by, mesh=mesh, axis_name=axis_name)

    @jax.custom_vjp
    def loss(embeddings: jax.Array, batch: dict[str, Any]) -> tuple[jax.Array, TripletStats]:
        return run(embeddings, **batch)[:2]

    def forward(embeddings: jax.Array, batch: dict[str, Any]) -> tuple[tuple[jax.Array, TripletStats], jax.Array]:
        value, stats, gradient = run(embeddings, **batch)
        return (value, stats), gradient.astype(embeddings.dtype)

    def backward(gradient: jax.Array, cotangents: tuple[jax.Array, TripletStats]) -> tuple[jax.Array, None]:
        return gradient * cotangents[0].astype(gradient.dtype), None

    loss.defvjp(forward, backward)
    return loss(jnp.asarray(embeddings), batch)


def triplet_loss_and_gradient(
    embeddings: jax.Array,
    labels: jax.Array,
    valid: jax.Array | None = None,
    *,
    margin: float | jax.Array = 0.2,
    selection: Selection = DEFAULT,
    divide_by: str = "pairs",
    mesh: Mesh | None = None,
    axis_name: AxisName | None = None,
    seed: int | jax.Array = 0,
    step: int | jax.Array = 0,
    odd_rows_are_fixed: bool = False,
) -> tuple[jax.Array, TripletStats, jax.Array]:
    """The loss, its stats, and its gradient with respect to the embeddings, in one pass.

    Arguments as in `triplet_loss`; `odd_rows_are_fixed` leaves triplets of three odd rows out of loss and counts, see
    `harmonic_loss_and_gradient`. The gradient is float32 [B, d], divided as the embeddings are; zero in masked rows.
    """
    if divide_by not in DIVIDE_BY:
        raise ValueError(f"divide_by is {divide_by!r}; one of {', '.join(DIVIDE_BY)} is needed")
    axes = axes_of(mesh, axis_name)
    body = partial(
        _on_one_device, axes=axes, divide_by=divide_by, selection=selection, odd_rows_are_fixed=odd_rows_are_fixed
    )
    return on_whole_batch(body, (P(), P(), P(axes)), axes, mesh, embeddings, labels, valid, margin, seed, step)


def _on_one_device(
    anchors: Anchors,
    exemplars: Exemplars,
    tiling: Tiling,
    margin: jax.Array,
    *draw: jax.Array,
    axes: tuple[str, ...],
    divide_by: str,
    selection: Selection,
    odd_rows_are_fixed: bool,
) -> tuple[jax.Array, TripletStats, jax.Array]:
    """One device's anchors against the whole batch; reduced over the axes before it returns."""

    def one_block(carry, which_and_real):  # type: ignore[no-untyped-def]
        sums, gradient = carry
        block = block_distances(anchors, exemplars, *which_and_real)
        size = block.anchors.rows.shape[0]
        line = jnp.arange(size)

        def one_group(group, carry):  # type: ignore[no-untyped-def]
            sums, weights = carry
            chosen = choose(exemplars, block, group, tiling.together, selection, margin, draw)
            if odd_rows_are_fixed:
                one_moves = (block.anchors.rows & chosen.positive & chosen.negative & 1) == 0
                chosen = chosen._replace(is_triplet=chosen.is_triplet & one_moves)
            hinge = jnp.where(chosen.is_triplet, jnp.maximum(chosen.d_ap - chosen.d_an + margin, 0.0), 0.0)
            active = (hinge > 0.0).astype(jnp.float32)
            weights = weights.at[line, chosen.positive].add(active, mode="promise_in_bounds")
            weights = weights.at[line, chosen.negative].add(-active, mode="promise_in_bounds")
            ap = jnp.where(chosen.is_pair, chosen.d_ap, 0.0)
            more = [jnp.sum(x, axis=0) for x in (hinge, chosen.is_pair, chosen.is_triplet, active, ap)]
            return sums + jnp.stack(more), weights

        count = groups(selection, tiling.together, jnp.max(block.anchors.faces))
        zeros = jnp.zeros((5, size), jnp.float32), jnp.zeros((size, exemplars.labels.shape[0]), jnp.float32)
        pair_sums, weights = jax.lax.fori_loop(0, count, one_group, _varying(zeros, axes))
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

    zero_sums = _varying(jnp.zeros(7, jnp.float32), axes)
    zero_gradient = jnp.zeros_like(exemplars.points)
    (sums, gradient), _ = jax.lax.scan(one_block, (zero_sums, zero_gradient), blocks_of(anchors, tiling))
    # |sum of embeddings|^2, each device with its own rows: a scalar to add up like the others.
    of_all, is_face = jnp.sum(exemplars.points, axis=0), anchors.faces > 0
    of_faces = jnp.stack([jnp.sum(anchors.points * of_all), jnp.sum(is_face, dtype=jnp.float32)])
    sums = jnp.concatenate([sums, of_faces])
    if axes:
        batch = anchors.rows.shape[0] * jax.lax.axis_size(axes)
        gradient = jax.lax.psum_scatter(gradient[:batch], axes, tiled=True)
        sums = jax.lax.psum(sums, axes)
    else:
        gradient = gradient[: anchors.rows.shape[0]]
    total, pairs, triplets, active, ap, an, an_count, square_of_sum, faces = sums
    scale = 1.0 / _divisor(divide_by, pairs, active)
    stats = TripletStats(
        pairs=pairs,
        triplets=triplets,
        active=active,
        mean_ap=ap / jnp.maximum(pairs, 1.0),
        mean_an=an / jnp.maximum(an_count, 1.0),
        spread=1.0 - square_of_sum / jnp.maximum(faces, 1.0) ** 2,
    )
    return total * scale, stats, gradient * scale


def _varying(zeros: Any, axes: tuple[str, ...]) -> Any:
    """Zeros to begin a loop with whose result differs from device to device."""
    return jax.lax.pcast(zeros, axes, to="varying") if axes else zeros


def _divisor(divide_by: str, pairs: jax.Array, active: jax.Array) -> jax.Array:
    """At least 1: no pair, or no active triplet, is a loss of 0, not 0/0."""
    return jnp.maximum({"pairs": pairs, "active": active, "one": jnp.ones(())}[divide_by], 1.0)


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
    (loss, stats), gradient = jax.value_and_grad(_listed_loss, has_aux=True)(points, valid, margin, divide_by)
    return loss, stats, jax.lax.with_sharding_constraint(gradient, over_batch(mesh))


def _listed_loss(
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
    faces = jnp.maximum(jnp.sum(valid, dtype=jnp.float32), 1.0)
    stats = TripletStats(
        pairs=triplets,
        triplets=triplets,
        active=active,
        mean_ap=jnp.sum(jnp.where(whole, d_ap, 0.0)) / at_least_one,
        mean_an=jnp.sum(jnp.where(whole, d_an, 0.0)) / at_least_one,
        spread=1.0 - jnp.sum((jnp.sum(points, axis=0) / faces) ** 2),
    )
    return jnp.sum(hinge) / _divisor(divide_by, triplets, active), jax.lax.stop_gradient(stats)
