"""Two processes with two devices each give the same triplets, loss and gradient as one device."""

from functools import partial
from pathlib import Path

import jax
import numpy as np

import processes
from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.triplets import Selection, hardest_faces, select_triplets, triplet_loss_and_gradient

SCRIPT = Path(__file__).with_name("on_two_processes.py")


def test_two_processes_give_the_same_as_one_device(tmp_path):
    rng = np.random.default_rng(0)
    # Multiples of 1/64: float32 products are exact, so results must be equal, and equal distances are common.
    embeddings = np.round(rng.normal(0, 0.2, (64, 8)) * 64).astype(np.float32) / 64
    labels = rng.integers(0, 9, 64).astype(np.int32)
    valid = rng.random(64) < 0.9
    np.savez(tmp_path / "batch.npz", embeddings=embeddings, labels=labels, valid=valid)
    processes.start(SCRIPT, 2, 2, str(tmp_path / "batch.npz"), str(tmp_path / "out"))
    found = [dict(np.load(tmp_path / f"out{index}.npz")) for index in (0, 1)]

    arrays, mesh, wanted = (embeddings, labels, valid), make_mesh(1), {}
    for name, selection in (("default", Selection()), ("other", Selection("hardest", "random_semi_hard", "farthest"))):
        options = {"mesh": mesh, "selection": selection, "seed": 3, "step": 5}
        wanted[f"{name} select"] = jax.jit(partial(select_triplets, faces_per_identity=16, **options))(*arrays)
        wanted[f"{name} loss"] = jax.jit(partial(triplet_loss_and_gradient, **options))(*arrays)
    options = {"mesh": mesh, "positives": 2, "negatives": 3, "faces_per_identity": 16}
    wanted["offline"] = jax.jit(partial(hardest_faces, **options))(*arrays)
    leaves = {f"{name}{i}": leaf for name, tree in wanted.items() for i, leaf in enumerate(jax.tree.leaves(tree))}
    for process in found:
        assert set(process) == set(leaves)
        for name, leaf in leaves.items():
            if "loss" in name:  # the order of a sum may differ
                assert np.linalg.norm(process[name] - leaf) <= 1e-5 * np.linalg.norm(leaf), name
            else:
                np.testing.assert_array_equal(process[name], leaf, err_msg=name)
    assert leaves["default loss0"] > 0
