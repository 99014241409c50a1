"""Run by test_processes.py in each of two processes: selection, loss and gradient over both processes' devices."""

import sys

import jax
import numpy as np

from facenet_jax.runtime.mesh import make_mesh, over_batch
from facenet_jax.triplets import Selection, hardest_faces, select_triplets, triplet_loss_and_gradient
from processes import join


def main(batch_file: str, out: str) -> None:
    join()
    mesh = make_mesh()
    assert mesh.size == 4
    assert jax.process_count() == 2
    with np.load(batch_file) as batch:
        whole = [batch[name] for name in ("embeddings", "labels", "valid")]
    rows = len(whole[1]) // jax.process_count()
    own = slice(rows * jax.process_index(), rows * (jax.process_index() + 1))
    arrays = [jax.make_array_from_process_local_data(over_batch(mesh), x[own]) for x in whole]
    results = {}

    def keep(name, function, *arguments):
        # Every process gets all rows, so that they can be compared.
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        leaves = jax.tree.leaves(jax.jit(function, out_shardings=everywhere)(*arguments))
        results.update({f"{name}{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)})

    for name, selection in (("default", Selection()), ("other", Selection("hardest", "random_semi_hard", "farthest"))):
        options = {"mesh": mesh, "selection": selection, "seed": 3, "step": 5}
        keep(f"{name} select", lambda *a, o=options: select_triplets(*a, faces_per_identity=16, **o), *arrays)
        keep(f"{name} loss", lambda *a, o=options: triplet_loss_and_gradient(*a, **o), *arrays)
    options = {"mesh": mesh, "positives": 2, "negatives": 3, "faces_per_identity": 16}
    keep("offline", lambda *a: hardest_faces(*a, **options), *arrays)
    np.savez(f"{out}{jax.process_index()}.npz", **results)


main(*sys.argv[1:])
