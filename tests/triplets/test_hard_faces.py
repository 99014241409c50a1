"""Offline selection compared with loops in float64: hardest positives, nearest negatives, suspected labels."""

from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.triplets import hardest_faces
from programs import FUSED_AS_USERS
from reference_triplets import squared_distance

POSITIVES, NEGATIVES = 2, 3


def on_the_grid(rng, faces, size=8):
    """Embeddings of multiples of 1/64, where float32 products are exact and ties are common."""
    return np.round(rng.normal(0, 0.2, (faces, size)) * 64).astype(np.float32) / 64


def reference(points, labels, valid, anchor):
    """(positives, negatives) as ordered lists of (distance, row), and the share of nearer negatives."""
    rows = [row for row in np.flatnonzero(valid) if row != anchor]
    points = points.astype(np.float64)
    distances = {row: squared_distance(points[anchor], points[row]) for row in rows}
    positives = sorted((-distances[row], row) for row in rows if labels[row] == labels[anchor])
    negatives = sorted((distances[row], row) for row in rows if labels[row] != labels[anchor])
    positives = [(-d, row) for d, row in positives]
    if not positives:
        return positives, negatives, 0.0
    median = sorted(d for d, _ in positives)[(len(positives) - 1) // 2]
    nearer = sum(d < median for d, _ in negatives) / max(len(negatives), 1)
    return positives, negatives, nearer


@cache
def compiled(devices):
    options = {"mesh": make_mesh(devices), "positives": POSITIVES, "negatives": NEGATIVES, "faces_per_identity": 16}
    return jax.jit(lambda *arrays: hardest_faces(*arrays, **options))


def search(points, labels, valid, devices):
    return jax.device_get(compiled(devices)(points, labels.astype(np.int32), valid))


@pytest.mark.parametrize("devices", [1, 2, 8])
@given(seed=st.integers(0, 2**32 - 1), identities=st.integers(1, 12))
def test_the_hardest_faces_are_those_of_the_loops(devices, seed, identities):
    rng = np.random.default_rng(seed)
    points = on_the_grid(rng, 16)
    labels = rng.integers(0, identities, 16)
    valid = rng.random(16) < 0.9
    points[~valid] = np.nan
    found = search(points, labels, valid, devices)
    for anchor in np.flatnonzero(valid):
        positives, negatives, nearer = reference(points, labels, valid, anchor)
        for rows, distances, wanted in (
            (found.positive[anchor], found.d_ap[anchor], positives),
            (found.negative[anchor], found.d_an[anchor], negatives),
        ):
            wanted = (wanted + [(0.0, -1)] * len(rows))[: len(rows)]
            assert rows.tolist() == [row for _, row in wanted]
            np.testing.assert_array_equal(distances, [d for d, _ in wanted])
        np.testing.assert_allclose(found.nearer_negatives[anchor], nearer, rtol=1e-6)


def test_planted_wrong_labels_are_suspected():
    rng = np.random.default_rng(0)
    identities, each, size = 40, 8, 32
    centres = rng.normal(size=(identities, size))
    points = np.repeat(centres, each, axis=0) + 0.4 * rng.normal(size=(identities * each, size))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    labels = np.repeat(np.arange(identities), each)
    wrong = rng.random(len(labels)) < 0.05
    planted = np.where(wrong, (labels + rng.integers(1, identities, len(labels))) % identities, labels)
    suspected = search(points, planted, np.ones(len(labels), bool), 8).nearer_negatives
    assert np.median(suspected[wrong]) > 0.3
    assert (suspected[wrong].min() > suspected[~wrong]).mean() > 0.95


def test_the_program_holds_no_matrix_of_all_distances():
    faces, mesh = 4096, make_mesh(8)
    shapes = [
        jax.ShapeDtypeStruct((faces, 32), np.float32),
        jax.ShapeDtypeStruct((faces,), np.int32),
        jax.ShapeDtypeStruct((faces,), np.bool_),
    ]
    program = jax.jit(
        lambda *arrays: hardest_faces(*arrays, mesh=mesh, positives=1, negatives=5, faces_per_identity=40)
    )
    temporaries = program.lower(*shapes).compile(compiler_options=FUSED_AS_USERS).memory_analysis().temp_size_in_bytes
    assert temporaries < faces * faces * 4 / 4
