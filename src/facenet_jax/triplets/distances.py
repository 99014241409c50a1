"""Squared L2 distances between embeddings, and searches down the columns of a matrix of them.

Distances are compared by their bits, as keys: those of floats >= 0 are in the order of the floats, and with integers
the search for the least key above a floor is one subtraction and one minimum a key. Exemplars lie along the slow axis
and anchors along the fast one, so that as many anchors are searched at once as the processor has lanes.
"""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp

# Rows whose minimum, or number, is taken before any row is sought; keys have a multiple of it.
CHUNK = 32
# The key of what is no candidate: the bits of infinity. Those of the largest float are one less.
ABSENT = 0x7F800000
LARGEST = ABSENT - 1


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


def bits(distances: jax.Array) -> jax.Array:
    """float32 >= 0 -> uint32 in the same order."""
    return jax.lax.bitcast_convert_type(distances, jnp.uint32)


def nearest(key: jax.Array, floor: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The row with the least key at or above a floor; among equal keys the lowest row.

    Args:
      key: uint32 [B', block], ABSENT where there is no candidate.
      floor: uint32 [g, block], at most ABSENT.

    Returns:
      int32 rows [g, block], and bool [g, block]: whether there is such a row.
    """
    chunks = _in_chunks(key)
    # Below the floor the difference wraps around to more than that of any candidate and of ABSENT.
    # The barrier keeps XLA from joining both minima into one over a stored difference, which took ten times as long.
    least_of_chunk = jax.lax.optimization_barrier(jnp.min(chunks - floor, axis=1))
    least = jnp.min(least_of_chunk, axis=0)
    # Only the first chunk that holds the least is searched for it.
    chunk = _first(least_of_chunk == least)
    member = _first(_members(chunks, chunk) - floor == least)
    return chunk * CHUNK + member, least < ABSENT - floor


def any_between(key: jax.Array, floor: jax.Array, ceiling: jax.Array, chance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A row with floor <= key < ceiling, each with the same chance; arguments and result as for `nearest`.

    The row is the (chance modulo their number)-th of them in order of index: uneven by their number / 2^32.
    """
    chunks = _in_chunks(key)
    width = jnp.maximum(ceiling, floor) - floor
    of_chunk = jax.lax.optimization_barrier(jnp.sum(chunks - floor < width, axis=1, dtype=jnp.int32))
    until_chunk = _running_sum(of_chunk)
    number = until_chunk[-1]
    rank = (chance % jnp.maximum(number, 1).astype(jnp.uint32)).astype(jnp.int32)
    chunk = _first(until_chunk > rank)
    rank_in_chunk = rank - (take(until_chunk, chunk[None]) - take(of_chunk, chunk[None]))[0]
    until_member = _running_sum((_members(chunks, chunk) - floor < width).astype(jnp.int32))
    return chunk * CHUNK + _first(until_member > rank_in_chunk), number > 0


def take(values: jax.Array, rows: jax.Array) -> jax.Array:
    """values[rows] in each column."""
    return jnp.take_along_axis(values, rows, axis=0, mode="promise_in_bounds")


def _in_chunks(key: jax.Array) -> jax.Array:
    """[B', block] -> [B' / chunk, chunk, 1, block]."""
    return key.reshape(-1, CHUNK, 1, key.shape[1])


def _members(chunks: jax.Array, chunk: jax.Array) -> jax.Array:
    """The members of one chunk for each of [g, block]: [chunk, g, block]."""
    return jnp.take_along_axis(chunks, chunk[None, None], axis=0, mode="promise_in_bounds")[0]


def _running_sum(values: jax.Array) -> jax.Array:
    """The cumulative sum along axis 0. On a CPU one row after another, several times faster there than jnp.cumsum."""

    def row_by_row(values: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda total, row: (total + row, total + row), jnp.zeros_like(values[0]), values)[1]

    # Elsewhere each row would be a kernel.
    return jax.lax.platform_dependent(values, cpu=row_by_row, default=partial(jnp.cumsum, axis=0))


def _first(found: jax.Array) -> jax.Array:
    """The first place along axis 0 that is True; the last place where none is. Several times faster than argmax."""
    places = jax.lax.broadcasted_iota(jnp.int32, found.shape, 0)
    return jnp.min(jnp.where(found, places, found.shape[0] - 1), axis=0)
