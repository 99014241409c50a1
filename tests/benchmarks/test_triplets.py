"""The benchmark of the triplet loss: its peer in JAX computes the right loss, and it runs from end to end."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_triplets as reference
from benchmarks.in_jax import floor
from benchmarks.tiled_form import tiled_semi_hard_loss
from benchmarks.triplets import faces_per_identity, make_batch
from benchmarks.triplets_table import in_bytes, in_time, ratio
from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.triplets import Selection, triplet_loss_and_gradient

BATCH, SIZE = 24, 8
ROOT = Path(__file__).parents[2]
tiled = jax.jit(jax.value_and_grad(tiled_semi_hard_loss))
ours = jax.jit(
    lambda e, labels: triplet_loss_and_gradient(
        e, labels, jnp.ones(BATCH, bool), mesh=make_mesh(1), selection=Selection(no_semi_hard="farthest")
    )
)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_the_tiled_form_is_our_loss_with_the_farthest_negative_where_none_is_semi_hard(seed, identities):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(BATCH) % identities)
    embeddings = rng.normal(size=(BATCH, SIZE)) + 0.7 * rng.normal(size=(identities, SIZE))[labels]
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    want = reference.triplet_loss(embeddings, labels, np.ones(BATCH, bool), no_semi_hard="farthest")
    loss, gradient = tiled(embeddings, labels)
    np.testing.assert_allclose(loss, want.loss, rtol=1e-4)
    our_loss, _, our_gradient = ours(embeddings, labels)
    np.testing.assert_allclose(loss, our_loss, rtol=1e-5)
    if min(gap for _, _, gap in want.gaps) > 1e-5:  # otherwise rounding may choose another negative
        np.testing.assert_allclose(gradient, our_gradient, atol=1e-6)


def test_the_floor_does_the_products_that_it_claims():
    embeddings, _ = make_batch(600)  # more than one block, and not a whole number of them
    x = embeddings.astype(np.float64)
    number, gradient = jax.jit(floor)(embeddings)
    gram = x @ x.T
    np.testing.assert_allclose(gradient, gram @ x + gram.T @ x, rtol=1e-4, atol=1e-4)
    # The last block is filled up with zeros, whose least product is 0.
    np.testing.assert_allclose(number, gram.min(axis=0).sum(), rtol=1e-4)


@pytest.mark.parametrize(("size", "faces"), [(24, 6), (180, 36), (360, 40), (1800, 40), (65_536, 32)])
def test_faces_per_identity(size, faces):
    assert faces_per_identity(size) == faces


def test_a_batch_has_pairs_with_a_negative_inside_the_margin_and_pairs_without():
    embeddings, labels = make_batch(240)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)
    want = reference.triplet_loss(embeddings, labels, np.ones(240, bool))
    assert 0.2 < want.active / want.pairs < 0.8


def test_formats_of_the_table():
    assert [in_time(0.00123), in_time(12.34)] == ["1.23 ms", "12.3 s"]
    assert [in_bytes(500), in_bytes(1536), in_bytes(3 * 2**40)] == ["500 B", "1.5 KiB", "3 TiB"]
    # Turn by turn: 2, 4 and 3; the turn that only one of them had does not count.
    assert ratio({"seconds": [2.0, 8.0, 6.0, 9.0]}, {"seconds": [1.0, 2.0, 2.0, None]}) == 3.0


def test_the_whole_run(tmp_path):
    command = [sys.executable, "-m", "benchmarks.triplets", "--sizes=24", "--repeats=2", "--without-peers"]
    subprocess.run([*command, f"--out={tmp_path}"], cwd=ROOT, check=True, capture_output=True)
    contenders = json.loads((tmp_path / "triplets.json").read_text())["sizes"]["24"]["contenders"]
    for name in ("ours", "floor", "tiled"):
        assert len(contenders[name]["seconds"]) == 2
        assert contenders[name]["temporaries"] > 0
    assert contenders["miner"]["refused"] == "left out"
    assert "| " in (tmp_path / "triplets.md").read_text()
