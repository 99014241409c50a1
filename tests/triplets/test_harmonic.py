"""The harmonic loss compared with a float64 reference that loops, on one device and on eight."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_triplets as reference
from facenet_jax.runtime.mesh import make_mesh, over_batch
from facenet_jax.triplets import Selection, harmonic_loss_and_gradient, triplet_loss_and_gradient
from facenet_jax.triplets.selection import ANCHOR_BLOCK
from programs import FUSED_AS_USERS

BATCH, SIZE, MARGIN, SEED, STEP = 16, 8, 0.2, 3, 5
SELECTIONS = {
    "default": Selection(),
    "random or farthest": Selection(negatives="random_semi_hard", no_semi_hard="farthest"),
    "hardest": Selection("hardest", "hardest"),
}


@cache
def compiled(name="default", devices=1, weight=1.0, divide_by="pairs"):
    options = {"mesh": make_mesh(devices), "selection": SELECTIONS[name], "seed": SEED, "step": STEP}
    return jax.jit(
        lambda new, old, labels, valid: harmonic_loss_and_gradient(
            new, old, labels, valid, weight=weight, divide_by=divide_by, margin=MARGIN, **options
        ),
        compiler_options={"xla_backend_optimization_level": 0},
    )


def run(new, old, labels, valid, **how):
    return jax.device_get(compiled(**how)(new, old, jnp.asarray(labels, jnp.int32), jnp.asarray(valid)))


def plain(new, old, labels, valid, name="default", divide_by="pairs"):
    """Loss, counts and the gradient of the new points, by loops in float64; and the kinds of triplets that occur."""
    points = np.empty((2 * len(new), new.shape[1]))
    points[0::2], points[1::2] = new, old
    how = vars(SELECTIONS[name])
    twice = np.repeat(labels, 2), np.repeat(valid, 2)
    found = reference.triplet_loss(points, *twice, margin=MARGIN, seed=SEED, step=STEP, **how)
    moved = [t for t in found.triplets if not all(row % 2 for row in t)]
    loss, active, gradient = reference.loss_of(points, moved, MARGIN)
    count = max({"pairs": found.pairs, "active": active, "one": 1}[divide_by], 1)
    kinds = {tuple("no"[row % 2] for row in t) for t in found.triplets}
    return found, moved, loss / count, active, gradient[0::2] / count, kinds


def on_grid(rng, coarseness=1):
    """Multiples of 1/64 or coarser, whose products and sums are exact in float32; the coarser, the more ties."""
    steps = 64 // coarseness
    return (rng.integers(-steps // 2, steps // 2 + 1, size=(BATCH, SIZE)) / steps).astype(np.float32)


def check(new, old, labels, valid, name="default", devices=1, divide_by="pairs"):
    loss, stats, gradient = run(new, old, labels, valid, name=name, devices=devices, divide_by=divide_by)
    found, moved, want, active, want_gradient, kinds = plain(new, old, labels, valid, name, divide_by)
    assert (int(stats.pairs), int(stats.triplets), int(stats.active)) == (found.pairs, len(moved), active)
    np.testing.assert_allclose(loss, want, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, want_gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stats.mean_ap, found.mean_ap, rtol=1e-5)
    np.testing.assert_allclose(stats.mean_an, found.mean_an, rtol=1e-5)
    alone = reference.triplet_loss(new, labels, valid)
    np.testing.assert_allclose(stats.spread, alone.spread, rtol=1e-5, atol=1e-5)
    return kinds


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("name", SELECTIONS)
@given(data=st.data())
def test_any_labels_masks_and_ties_agree_with_the_reference(name, devices, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    coarseness = data.draw(st.sampled_from([1, 4, 16]))
    labels = rng.integers(0, data.draw(st.integers(1, BATCH)), BATCH)
    valid = rng.random(BATCH) < data.draw(st.sampled_from([1.0, 0.7]))
    new, old = on_grid(rng, coarseness), on_grid(rng, coarseness)
    if data.draw(st.booleans()):
        old[::2] = new[::2]  # distances of 0
    check(new, old, labels, valid, name, devices)


def test_all_mixtures_except_three_old_points_are_used():
    rng = np.random.default_rng(0)
    kinds = check(on_grid(rng), on_grid(rng), np.arange(BATCH) // 4, np.ones(BATCH, bool))
    assert len(kinds) == 8


@pytest.mark.parametrize("divide_by", ["active", "one"])
def test_divisors(divide_by):
    rng = np.random.default_rng(1)
    check(on_grid(rng), on_grid(rng), rng.integers(0, 5, BATCH), np.ones(BATCH, bool), divide_by=divide_by)


def test_more_rows_than_a_block_give_the_same_on_one_and_eight_devices():
    rng = np.random.default_rng(2)
    batch = 2 * ANCHOR_BLOCK
    new, old = (np.concatenate([on_grid(rng) for _ in range(batch // BATCH)]) for _ in range(2))
    labels, valid = rng.integers(0, 60, batch), rng.random(batch) < 0.95
    one, eight = (run(new, old, labels, valid, devices=devices) for devices in (1, 8))
    assert one[1].active == eight[1].active > 0
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), one, eight)


def test_an_old_network_equal_to_the_new_one():
    """The loss of every face twice, with a gradient only for the new points."""
    rng = np.random.default_rng(4)
    new, labels, valid = on_grid(rng), np.arange(BATCH) // 4, np.ones(BATCH, bool)
    assert (run(new, new, labels, valid)[2] != 0).any()
    # If all faces of a person have the same point, and others are far away, the loss is 0.
    apart = 2 * np.eye(SIZE, dtype=np.float32)[np.arange(BATCH) // 4]
    loss, stats, gradient = run(apart, apart, labels, valid)
    assert (float(loss), int(stats.active)) == (0, 0)
    assert not gradient.any()


@pytest.mark.parametrize("weight", [0.25, 0.9])
def test_the_weight_is_the_share_of_the_harmonic_loss(weight):
    rng = np.random.default_rng(5)
    arrays = on_grid(rng), on_grid(rng), np.arange(BATCH) // 4, np.ones(BATCH, bool)
    loss, stats, gradient = run(*arrays, weight=weight)
    harmonic = run(*arrays)
    new, _, labels, valid = arrays
    alone = reference.triplet_loss(new, labels, valid, margin=MARGIN)
    np.testing.assert_allclose(loss, (1 - weight) * alone.loss + weight * harmonic[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, (1 - weight) * alone.gradient + weight * harmonic[2], rtol=1e-5, atol=1e-6)
    assert stats == harmonic[1]
    assert (alone.gradient != 0).any()


def test_new_points_move_to_old_ones_of_the_same_person():
    """After gradient descent on the points, the old point nearest to a new one is of the same person."""
    rng = np.random.default_rng(6)
    labels, valid = np.arange(BATCH) // 4, np.ones(BATCH, bool)
    old = rng.normal(size=(4, SIZE))[labels] + 0.2 * rng.normal(size=(BATCH, SIZE))
    new = rng.normal(size=(BATCH, SIZE))
    old, new = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (old, new))

    def right(new):
        nearest = ((new[:, None] - old) ** 2).sum(axis=2).argmin(axis=1)
        return np.mean(labels[nearest] == labels)

    before = right(new)
    for _ in range(200):
        new = new - 2 * run(new.astype(np.float32), old.astype(np.float32), labels, valid)[2]
        new /= np.linalg.norm(new, axis=1, keepdims=True)
    assert before < 0.6 < 0.9 < right(new)


def test_memory_grows_with_the_batch_and_not_with_its_square():
    def temporaries(batch):
        rows = over_batch(make_mesh(1))
        points = jax.ShapeDtypeStruct((batch, 32), jnp.float32, sharding=rows)
        labels = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=rows)
        valid = jax.ShapeDtypeStruct((batch,), jnp.bool_, sharding=rows)
        lowered = compiled().lower(points, points, labels, valid)
        return lowered.compile(compiler_options=FUSED_AS_USERS).memory_analysis().temp_size_in_bytes

    assert temporaries(8192) < 4.1 * temporaries(2048)


def test_inside_a_shard_map():
    rng = np.random.default_rng(8)
    arrays = on_grid(rng), on_grid(rng), jnp.arange(BATCH, dtype=jnp.int32) // 4, rng.random(BATCH) < 0.9
    mesh = make_mesh(8)
    axes = tuple(mesh.axis_names)
    own, same = jax.sharding.PartitionSpec(axes), jax.sharding.PartitionSpec()
    body = partial(harmonic_loss_and_gradient, margin=MARGIN, axis_name=axes, weight=0.5)
    found = jax.jit(jax.shard_map(body, mesh=mesh, in_specs=own, out_specs=(same, same, own)))(*arrays)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, run(*arrays, weight=0.5))


def test_mistakes_are_refused_in_one_sentence():
    points, labels = jnp.zeros((4, 2)), jnp.zeros(4, int)
    for weight in (0.0, -1.0, 1.5):
        with pytest.raises(ValueError, match="above 0 and up to 1 is needed"):
            harmonic_loss_and_gradient(points, points, labels, weight=weight)
    for old in (jnp.zeros((4, 3)), jnp.zeros((3, 2))):
        with pytest.raises(ValueError, match="is needed of both"):
            harmonic_loss_and_gradient(points, old, labels)


def test_without_a_mesh_and_a_mask():
    rng = np.random.default_rng(7)
    new, old, labels = on_grid(rng), on_grid(rng), jnp.arange(BATCH) // 4
    loss, stats, gradient = harmonic_loss_and_gradient(new, old, labels)
    want = run(new, old, labels, np.ones(BATCH, bool))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), (loss, stats, gradient), want)
    plain_stats = triplet_loss_and_gradient(new, labels)[1]
    assert int(stats.pairs) == int(plain_stats.pairs) * 4 + 2 * BATCH
