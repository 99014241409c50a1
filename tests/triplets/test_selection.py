"""Every selection compared with a float64 reference that loops, on one device and on meshes."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_triplets as reference
from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.triplets import Selection, select_triplets, triplet_loss_and_gradient
from facenet_jax.triplets.selection import ANCHOR_BLOCK, tiling

BATCH, SIZE = 40, 8
MARGIN, SEED, STEP = 0.2, 7, 11
SELECTIONS = {
    "default": Selection(),
    "hardest positives": Selection(positives="hardest"),
    "hardest negatives": Selection(negatives="hardest"),
    "random": Selection(negatives="random_semi_hard"),
    "hardest positives, random or farthest": Selection("hardest", "random_semi_hard", "farthest"),
    "farthest": Selection(no_semi_hard="farthest"),
}


@cache
def compiled(name, devices):
    """One program for triplets, loss, stats and gradient, with seed, step and margin as arguments."""
    mesh, selection = make_mesh(devices), SELECTIONS[name]

    @jax.jit
    def run(embeddings, labels, valid, seed, step, margin):
        arguments = {"mesh": mesh, "selection": selection, "seed": seed, "step": step, "margin": margin}
        chosen = select_triplets(embeddings, labels, valid, faces_per_identity=BATCH, **arguments)
        return chosen, triplet_loss_and_gradient(embeddings, labels, valid, **arguments)

    return run


def run(name, devices, embeddings, labels, valid, seed=SEED, step=STEP, margin=MARGIN):
    """The triplets as {(a, p): n or None}, and loss, stats, gradient."""
    chosen, rest = jax.device_get(
        compiled(name, devices)(embeddings, jnp.asarray(labels, jnp.int32), jnp.asarray(valid), seed, step, margin)
    )
    found = {}
    for a, k in zip(*np.nonzero(chosen.is_pair), strict=True):
        pair = (int(a), int(chosen.positive[a, k]))
        assert pair not in found
        found[pair] = int(chosen.negative[a, k]) if chosen.is_triplet[a, k] else None
    return found, rest


def want_of(name, embeddings, labels, valid, seed=SEED, step=STEP, margin=MARGIN):
    how = vars(SELECTIONS[name])
    want = reference.triplet_loss(embeddings, labels, valid, margin=margin, seed=seed, step=step, **how)
    negatives = {(a, p): n for a, p, n in want.triplets}
    return {(a, p): negatives.get((a, p)) for a, p, _ in want.gaps}, want


def on_grid(rng, coarseness):
    """Multiples of 1/64 or coarser, whose products and sums are exact in float32; the coarser, the more ties."""
    steps = 64 // coarseness
    return (rng.integers(-steps // 2, steps // 2 + 1, size=(BATCH, SIZE)) / steps).astype(np.float32)


def some_labels(rng):
    """Identities with many and with few faces, also single ones, in random order."""
    labels = np.concatenate([np.repeat(np.arange(6), [11, 7, 5, 3, 2, 2]), 100 + np.arange(BATCH - 30)])
    return rng.permutation(labels)


@pytest.mark.parametrize(
    ("name", "devices"),
    [(name, devices) for name in SELECTIONS for devices in (1, 8)]
    + [(name, devices) for name in ("default", "random") for devices in (2, 4)],
)
def test_on_a_grid_indices_loss_and_gradient_are_the_references(name, devices):
    rng = np.random.default_rng(devices)
    embeddings, labels, valid = on_grid(rng, rng.choice([1, 16])), some_labels(rng), rng.random(BATCH) < 0.9
    found, (loss, stats, gradient) = run(name, devices, embeddings, labels, valid)
    pairs, want = want_of(name, embeddings, labels, valid)
    assert found == pairs
    assert (int(stats.pairs), int(stats.triplets), int(stats.active)) == (want.pairs, len(want.triplets), want.active)
    np.testing.assert_allclose(loss, want.loss, rtol=1e-5)
    assert np.linalg.norm(gradient - want.gradient) <= 1e-5 * np.linalg.norm(want.gradient)
    np.testing.assert_allclose(stats.mean_ap, want.mean_ap, rtol=1e-5)
    np.testing.assert_allclose(stats.mean_an, want.mean_an, rtol=1e-5)


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("devices", [1, 8])
def test_off_the_grid_indices_differ_only_at_near_ties(name, devices):
    rng = np.random.default_rng(20 + devices)
    embeddings = rng.normal(size=(BATCH, SIZE))
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    labels, valid = some_labels(rng), np.ones(BATCH, bool)
    found, (loss, _, gradient) = run(name, devices, embeddings, labels, valid)
    pairs, want = want_of(name, embeddings, labels, valid)
    clear = {(a, p) for a, p, gap in want.gaps if gap > 1e-6}
    assert len(clear) > 0.9 * len(pairs)
    assert {pair: found[pair] for pair in clear} == {pair: pairs[pair] for pair in clear}
    triplets = [(a, p, n) for (a, p), n in found.items() if n is not None]
    want_loss, _, want_gradient = reference.loss_of(embeddings.astype(np.float64), triplets, MARGIN)
    np.testing.assert_allclose(loss * len(found), want_loss, rtol=1e-5)
    assert np.linalg.norm(gradient * len(found) - want_gradient) <= 1e-5 * np.linalg.norm(want_gradient)


@settings(max_examples=15)
@given(st.sampled_from(sorted(SELECTIONS)), st.integers(0, 2**32 - 1), st.sampled_from([1, 4, 16, 32]))
def test_any_labels_masks_and_ties(name, seed, coarseness):
    rng = np.random.default_rng(seed)
    embeddings = on_grid(rng, coarseness)
    labels, valid = rng.integers(0, rng.integers(1, BATCH), BATCH), rng.random(BATCH) < rng.choice([1.0, 0.6, 0.1])
    step, margin = int(rng.integers(0, 2**31)), float(rng.choice([0.05, 0.2, 1.1]))
    found, _ = run(name, 1, embeddings, labels, valid, step=step, margin=margin)
    assert found == want_of(name, embeddings, labels, valid, step=step, margin=margin)[0]


def test_random_negatives_change_with_seed_and_step_and_reach_the_whole_band():
    rng = np.random.default_rng(30)
    embeddings, valid = on_grid(rng, 1) * 0.25, np.ones(BATCH, bool)
    labels = some_labels(rng)
    draws = [run("random", 1, embeddings, labels, valid, seed=seed, step=step)[0] for seed in (1, 2) for step in (1, 2)]
    assert all(a != b for i, a in enumerate(draws) for b in draws[:i])

    draws = [run("random", 1, embeddings, labels, valid, step=step)[0] for step in range(300)]
    distance = np.sum((embeddings[:, None] - embeddings[None]) ** 2, axis=-1)
    far_from_even = []
    for a, p in draws[0]:
        d = distance[a]
        band = np.flatnonzero((labels != labels[a]) & (d > d[p]) & (d < d[p] + MARGIN))
        if len(band) > 1:
            counts = np.array([sum(draw[a, p] == n for draw in draws) for n in band])
            assert counts.sum() == len(draws)
            expected = len(draws) / len(band)
            # Chi-squared in units of its standard deviation above its mean.
            chi2, freedom = np.sum((counts - expected) ** 2) / expected, len(band) - 1
            far_from_even.append((chi2 - freedom) / np.sqrt(2 * freedom))
    assert len(far_from_even) > 50
    assert max(far_from_even) < 6
    assert abs(np.mean(far_from_even)) < 0.3


@pytest.mark.parametrize("name", SELECTIONS)
def test_degenerate_batches_have_finite_gradients(name):
    rng = np.random.default_rng(32)
    points, people, everyone = on_grid(rng, 1), some_labels(rng), np.ones(BATCH, bool)
    for embeddings, labels, valid in (
        (np.repeat(points[: BATCH // 4], 4, axis=0), people, everyone),  # duplicates, within identities and across
        (np.broadcast_to(points[:1], points.shape), people, everyone),  # all equal
        (np.zeros_like(points), people, everyone),
        (points, np.zeros(BATCH, int), everyone),  # only one identity
        (points, np.arange(BATCH), everyone),  # only single faces
        (points, people, ~everyone),
        (np.where(np.arange(BATCH)[:, None] % 5 == 0, np.nan, points), people, np.arange(BATCH) % 5 != 0),
    ):
        found, (loss, stats, gradient) = run(name, 1, embeddings, labels, valid)
        assert all(np.isfinite(x).all() for x in (loss, gradient, *stats))
        assert found == want_of(name, embeddings, labels, valid)[0]
    _, (loss, _, gradient) = run(name, 1, points * np.float32(1e-20), people, everyone)  # distances round to 0
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


def test_with_farthest_a_collapsed_embedding_has_the_loss_of_the_margin():
    """As Selection documents: if such pairs are skipped, the loss of a collapsed embedding is 0."""
    rng = np.random.default_rng(33)
    points, labels, valid = np.full((BATCH, SIZE), 0.25, np.float32), some_labels(rng), np.ones(BATCH, bool)
    losses = {name: float(run(name, 1, points, labels, valid)[1][0]) for name in ("default", "farthest")}
    assert losses == {"default": 0.0, "farthest": pytest.approx(MARGIN)}


@pytest.mark.parametrize("field", ["positives", "negatives", "no_semi_hard"])
def test_an_unknown_name_is_refused_with_the_known_ones(field):
    with pytest.raises(ValueError, match=f"{field} is 'easy'; one of"):
        Selection(**{field: "easy"})


@pytest.fixture
def as_on_an_accelerator(monkeypatch):
    """Programs made with this fixture are tiled, and add up, as on an accelerator."""
    monkeypatch.setattr("facenet_jax.triplets.selection.on_cpu", lambda mesh: False)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *values, cpu, default: default(*values))


@pytest.mark.parametrize("name", ["default", "random", "hardest positives, random or farthest"])
def test_an_accelerators_blocks_find_the_same_triplets(name, request):
    rng = np.random.default_rng(5)
    # More anchors than a block on a CPU; and an identity with more faces than an accelerator compares at once.
    labels = rng.permutation(np.concatenate([np.repeat(np.arange(12), [50, *[9] * 11]), 100 + np.arange(21)]))
    embeddings = rng.normal(size=(len(labels), SIZE)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    valid = rng.random(len(labels)) < 0.95
    arguments = {"mesh": make_mesh(1), "selection": SELECTIONS[name], "seed": SEED, "step": STEP}

    def found():
        @jax.jit
        def both(embeddings, labels, valid):
            chosen = select_triplets(embeddings, labels, valid, faces_per_identity=50, **arguments)
            return chosen, triplet_loss_and_gradient(embeddings, labels, valid, **arguments)

        return jax.device_get(both(embeddings, labels, valid))

    chosen, (loss, stats, gradient) = found()
    request.getfixturevalue("as_on_an_accelerator")
    theirs, (their_loss, their_stats, their_gradient) = found()
    assert theirs.positive.shape[1] == 80 or name.startswith("hardest")  # two groups of 40
    for mine, other in zip(chosen, theirs, strict=True):
        places = min(mine.shape[1], other.shape[1])
        np.testing.assert_array_equal(mine[:, :places], other[:, :places])
    assert not chosen.is_pair[:, 50:].any()
    assert not theirs.is_pair[:, 50:].any()
    assert (stats.pairs, stats.triplets, stats.active) == their_stats[:3]
    np.testing.assert_allclose(loss, their_loss, rtol=1e-6)
    np.testing.assert_allclose(gradient, their_gradient, atol=1e-6)


@pytest.mark.parametrize("rows", [24, 180, 1800, 7200, 65_536, 1_000_000])
def test_the_distances_in_a_block_of_an_accelerator_are_bounded(rows):
    anchors, together = tiling(rows, cpu=False)
    assert anchors * rows <= ANCHOR_BLOCK * max(rows, 65_536)
    assert anchors >= ANCHOR_BLOCK
    assert together >= 40  # the paper's faces of an identity in one group
    assert tiling(rows, cpu=True).anchors == ANCHOR_BLOCK
    assert anchors >= rows or rows > 2800  # the paper's batch in one block
