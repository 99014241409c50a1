"""The loss compared with a float64 reference that loops: values, gradients, degenerate batches."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_triplets as reference
from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.triplets import squared_distances, triplet_loss, triplet_loss_and_gradient
from facenet_jax.triplets.selection import ANCHOR_BLOCK

BATCH, SIZE = 24, 8


@cache
def compiled(divide_by="pairs"):
    mesh = make_mesh(1)
    return jax.jit(lambda e, labels, valid: triplet_loss_and_gradient(e, labels, valid, mesh=mesh, divide_by=divide_by))


def on_grid(rng, shape):
    """Embeddings of multiples of 1/64, whose products and sums are exact in float32."""
    return (rng.integers(-64, 65, size=shape) / 64).astype(np.float32)


def check(embeddings, labels, valid, divide_by="pairs"):
    loss, stats, gradient = compiled(divide_by)(embeddings, jnp.asarray(labels, jnp.int32), jnp.asarray(valid))
    want = reference.triplet_loss(embeddings, labels, valid, divide_by=divide_by)
    assert int(stats.pairs) == want.pairs
    assert int(stats.triplets) == len(want.triplets)
    assert int(stats.active) == want.active
    np.testing.assert_allclose(loss, want.loss, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, want.gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stats.mean_ap, want.mean_ap, rtol=1e-5)
    np.testing.assert_allclose(stats.mean_an, want.mean_an, rtol=1e-5)
    np.testing.assert_allclose(stats.spread, want.spread, rtol=1e-5, atol=1e-5)


@given(st.data())
def test_any_labels_counts_masks_and_ties_agree_with_the_reference(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    identities = data.draw(st.integers(1, BATCH))
    labels = rng.integers(0, identities, BATCH)
    valid = rng.random(BATCH) < data.draw(st.sampled_from([1.0, 0.7, 0.1]))
    # At half the scale distances are around the margin; a coarse grid gives ties and duplicates.
    embeddings = on_grid(rng, (BATCH, SIZE)) * 0.5
    if data.draw(st.booleans()):
        embeddings = np.round(embeddings * 4) / 4
    check(embeddings.astype(np.float32), labels, valid)


@pytest.mark.parametrize("divide_by", ["active", "one"])
def test_divisors(divide_by):
    rng = np.random.default_rng(1)
    check(on_grid(rng, (BATCH, SIZE)) * 0.5, rng.integers(0, 5, BATCH), np.ones(BATCH, bool), divide_by=divide_by)


def test_more_anchors_than_a_block():
    rng = np.random.default_rng(3)
    batch = ANCHOR_BLOCK + 17
    check(on_grid(rng, (batch, SIZE)) * 0.5, rng.integers(0, 30, batch), rng.random(batch) < 0.95)


@pytest.mark.parametrize(
    ("labels", "valid"),
    [
        (np.zeros(BATCH, int), np.ones(BATCH, bool)),  # only one identity, so no negative
        (np.arange(BATCH), np.ones(BATCH, bool)),  # only single faces, so no positive
        (np.zeros(BATCH, int), np.zeros(BATCH, bool)),  # nothing valid
    ],
)
def test_batches_without_a_triplet_have_loss_0_and_gradient_0(labels, valid):
    embeddings = on_grid(np.random.default_rng(4), (BATCH, SIZE))
    loss, _, gradient = compiled()(embeddings, labels, valid)
    assert float(loss) == 0.0
    assert not np.asarray(gradient).any()


def test_a_single_face_of_an_identity_is_only_a_negative():
    embeddings = np.zeros((BATCH, SIZE), np.float32)
    embeddings[1, 0], embeddings[2, 0] = 0.5, 0.75
    labels = np.array([0, 0, 1] + [9] * (BATCH - 3))
    valid = np.arange(BATCH) < 3
    loss, stats, _ = compiled()(embeddings, labels, valid)
    # (0, 1): positive at 0.25, negative at 0.5625, beyond the margin. (1, 0): the negative is nearer, so no triplet.
    assert (int(stats.pairs), int(stats.triplets), int(stats.active), float(loss)) == (2, 1, 0, 0.0)


def test_a_collapsed_embedding_has_no_triplet_and_no_spread():
    embeddings = np.zeros((BATCH, SIZE), np.float32)
    embeddings[:, 0] = 1.0
    loss, stats, gradient = compiled()(embeddings, np.arange(BATCH) // 4, np.ones(BATCH, bool))
    assert (float(loss), int(stats.triplets), float(stats.spread)) == (0.0, 0, 0.0)
    assert np.isfinite(gradient).all()


def test_the_gradient_passes_through_a_network():
    """The custom gradient, through a projection to the sphere, compared with finite differences in float64."""
    rng = np.random.default_rng(5)
    raw, labels = rng.normal(size=(BATCH, SIZE)), rng.integers(0, 5, BATCH)
    valid = np.ones(BATCH, bool)
    mesh = make_mesh(1)

    def loss(raw):
        unit = raw / jnp.linalg.norm(raw, axis=1, keepdims=True)
        return triplet_loss(unit, labels, valid, mesh=mesh)[0]

    gradient = np.asarray(jax.jit(jax.grad(loss))(raw.astype(np.float32)))
    direction = rng.normal(size=raw.shape)
    step = 1e-6

    def at(shift):
        moved = raw + shift * direction
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        return reference.triplet_loss(moved, labels, valid).loss

    np.testing.assert_allclose(np.sum(gradient * direction), (at(step) - at(-step)) / (2 * step), rtol=1e-3)


def test_bfloat16_embeddings_are_compared_in_float32():
    """A network in bfloat16 loses digits of its output, but the loss loses no more."""
    rng = np.random.default_rng(8)
    embeddings = jnp.asarray(rng.normal(size=(BATCH, SIZE)) / np.sqrt(SIZE), jnp.bfloat16)
    labels, valid, mesh = rng.integers(0, 5, BATCH), np.ones(BATCH, bool), make_mesh(1)
    assert squared_distances(embeddings, embeddings).dtype == jnp.float32
    loss = jax.jit(jax.value_and_grad(lambda e: triplet_loss(e, labels, valid, mesh=mesh)[0]))
    value, gradient = loss(embeddings)
    assert (value.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    want = reference.triplet_loss(np.asarray(embeddings, np.float64), labels, valid)
    np.testing.assert_allclose(value, want.loss, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(gradient, np.float64), want.gradient, rtol=2**-7, atol=1e-6)


def test_an_unknown_divisor_is_refused():
    with pytest.raises(ValueError, match="pairs, active, one"):
        triplet_loss(jnp.zeros((4, 2)), jnp.zeros(4, int), jnp.ones(4, bool), mesh=make_mesh(1), divide_by="mean")


def test_squared_distances_are_clamped_and_exact_on_a_grid():
    rng = np.random.default_rng(6)
    x, y = on_grid(rng, (5, SIZE)), on_grid(rng, (7, SIZE))
    want = np.sum((x[:, None].astype(np.float64) - y[None]) ** 2, axis=-1)
    np.testing.assert_array_equal(squared_distances(x, y), want.astype(np.float32))
    near = np.full((3, SIZE), 1 / np.sqrt(SIZE), np.float32)
    assert (np.asarray(squared_distances(near, near)) >= 0).all()
