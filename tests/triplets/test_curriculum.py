"""Stages: one compiled program uses the selection and the margin of each step's stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_triplets as reference
from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.triplets import Selection, Stage, harmonic_loss_and_gradient, staged_loss_and_gradient

BATCH, SIZE, SEED = 24, 8, 5
HARDEST, RANDOM = Selection("hardest", "hardest"), Selection(negatives="random_semi_hard")
STAGES = (
    Stage(0, Selection(), 0.1),
    Stage(10, Selection(), 0.5),
    Stage(20, HARDEST, 0.2),
    Stage(30, RANDOM, 0.4),
)


@pytest.mark.parametrize("devices", [1, 8])
def test_each_step_uses_its_stage(devices):
    rng = np.random.default_rng(0)
    embeddings = (rng.integers(-64, 65, size=(BATCH, SIZE)) / 128).astype(np.float32)
    labels, valid = rng.integers(0, 6, BATCH), rng.random(BATCH) < 0.9
    mesh = make_mesh(devices)
    run = jax.jit(
        lambda step: staged_loss_and_gradient(
            embeddings, jnp.asarray(labels, jnp.int32), valid, mesh=mesh, stages=STAGES, step=step, seed=SEED
        )
    )
    expected = {0: STAGES[0], 9: STAGES[0], 10: STAGES[1], 20: STAGES[2], 29: STAGES[2], 30: STAGES[3], 999: STAGES[3]}
    for step, stage in expected.items():
        loss, stats, gradient = run(step)
        how = vars(stage.selection)
        want = reference.triplet_loss(embeddings, labels, valid, margin=stage.margin, seed=SEED, step=step, **how)
        assert (int(stats.pairs), int(stats.triplets), int(stats.active)) == (
            want.pairs,
            len(want.triplets),
            want.active,
        )
        np.testing.assert_allclose(loss, want.loss, rtol=1e-5)
        assert np.linalg.norm(gradient - want.gradient) <= 1e-5 * np.linalg.norm(want.gradient)


def test_old_points_are_mixed_in_at_every_stage():
    rng = np.random.default_rng(1)
    new, old = ((rng.integers(-64, 65, size=(BATCH, SIZE)) / 128).astype(np.float32) for _ in range(2))
    labels, valid = jnp.asarray(rng.integers(0, 6, BATCH), jnp.int32), np.ones(BATCH, bool)
    options = {"mesh": make_mesh(1), "seed": SEED}
    run = jax.jit(
        lambda step: staged_loss_and_gradient(
            new, labels, valid, stages=STAGES, step=step, old=old, weight=0.5, **options
        )
    )
    for stage, step in ((STAGES[0], 3), (STAGES[2], 25)):
        how = {"selection": stage.selection, "margin": stage.margin, "step": step, "weight": 0.5}
        want = jax.jit(lambda how=how: harmonic_loss_and_gradient(new, old, labels, valid, **how, **options))()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), run(step), want)
