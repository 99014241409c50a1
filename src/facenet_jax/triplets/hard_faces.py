"""The hardest faces of a subset of the data, found with the latest parameters: offline selection (section 3.2).

For each face of the subset as an anchor: argmax over its identity of D(a, p), argmin over all others of D(a, n), the
first few of each. Each device takes its own anchors against all faces, a block at a time; the matrix of distances is
never whole.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from facenet_jax.triplets.distances import ABSENT, LARGEST, bits, nearest, take
from facenet_jax.triplets.selection import (
    AnchorBlock,
    Anchors,
    Exemplars,
    Tiling,
    axes_of,
    each_block,
    on_whole_batch,
    positives_of,
)


class HardFaces(NamedTuple):
    """What offline selection finds for each of M faces; rows of masked faces say nothing.

    Attributes:
      positive: int32 [M, P], rows of the hardest (farthest) positives, the hardest first; -1 where there are fewer.
      d_ap: float32 [M, P], their D(a, p); 0 where there is none.
      negative: int32 [M, N], rows of the nearest negatives, the nearest first; -1 where there are fewer.
      d_an: float32 [M, N], their D(a, n); 0 where there is none.
      nearer_negatives: float32 [M], the share of all negatives that are nearer to the anchor than the median of its
        positives; 0 where it has no positive. About 0.5 or more says that the face looks as much like anybody as like
        its own identity: its label is likely wrong.
    """

    positive: jax.Array
    d_ap: jax.Array
    negative: jax.Array
    d_an: jax.Array
    nearer_negatives: jax.Array


def hardest_faces(
    embeddings: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    mesh: Mesh,
    positives: int,
    negatives: int,
    faces_per_identity: int,
) -> HardFaces:
    """The hardest positives and the nearest negatives of each face; equal distances are decided by the lowest row.

    Args:
      embeddings: [M, d], sharded over the mesh (M a multiple of its size); taken as float32.
      labels: int32 [M].
      valid: bool [M]; rows that are False take no part.
      mesh: over which the faces are divided.
      positives: how many of the hardest positives, P.
      negatives: how many of the nearest negatives, N.
      faces_per_identity: no identity has more faces among these.
    """
    axes = axes_of(mesh, None)
    body = partial(_on_one_device, positives=positives, negatives=negatives, most_faces=faces_per_identity)
    return on_whole_batch(body, P(axes), axes, mesh, embeddings, labels, valid)


def _on_one_device(
    anchors: Anchors,
    exemplars: Exemplars,
    tiling: Tiling,
    *_: jax.Array,
    positives: int,
    negatives: int,
    most_faces: int,
) -> HardFaces:
    def of_block(block: AnchorBlock) -> HardFaces:
        far_first = LARGEST - bits(block.distances)
        is_positive = positives_of(exemplars, block)
        positive, d_ap = _first_few(jnp.where(is_positive, far_first, jnp.uint32(ABSENT)), block, positives)
        negative, d_an = _first_few(block.negative_key, block, negatives)
        nearer = _nearer_negatives(exemplars, block, most_faces)
        return HardFaces(positive.T, d_ap.T, negative.T, d_an.T, nearer)

    return each_block(of_block, anchors, exemplars, tiling)


def _first_few(key: jax.Array, block: AnchorBlock, count: int) -> tuple[jax.Array, jax.Array]:
    """The rows with the `count` least keys, [count, block], and their distances; -1 and 0 where there are fewer."""
    line = jnp.arange(key.shape[1])
    zero = jnp.zeros((1, key.shape[1]), jnp.uint32)

    def one(key: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        row, found = nearest(key, zero)
        distance = jnp.where(found, take(block.distances, row), 0.0)[0]
        return key.at[row[0], line].set(ABSENT), (jnp.where(found, row, -1)[0], distance)

    _, (rows, distances) = jax.lax.scan(one, key, length=count)
    return rows, distances


def _nearer_negatives(exemplars: Exemplars, block: AnchorBlock, most_faces: int) -> jax.Array:
    """See HardFaces: float32 [block]."""
    anchors: Anchors = block.anchors
    place = jnp.arange(most_faces, dtype=jnp.int32)[:, None]
    row = exemplars.by_label[jnp.minimum(anchors.start + place, exemplars.by_label.shape[0] - 1)]
    is_positive = (place < anchors.faces) & (row != anchors.rows)
    keys = jnp.sort(jnp.where(is_positive, bits(take(block.distances, row)), jnp.uint32(ABSENT)), axis=0)
    count = jnp.sum(is_positive, axis=0)
    median = take(keys, jnp.maximum(count - 1, 0)[None] // 2)
    is_negative = block.negative_key < ABSENT
    nearer = jnp.sum(is_negative & (block.negative_key < median), axis=0)
    share = nearer / jnp.maximum(jnp.sum(is_negative, axis=0), 1)
    return jnp.where(count > 0, share, 0.0).astype(jnp.float32)
