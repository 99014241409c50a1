"""Times triplet losses and a training step in JAX, asked by lines of JSON: ours, the tiled form and the floor."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.lines import serve, timed
from benchmarks.tiled_form import tiled_semi_hard_loss
from facenet_jax import models
from facenet_jax.config import load_config
from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.training.device_batch import DeviceBatch
from facenet_jax.training.optimizer import make_optimizer
from facenet_jax.training.state import create_state
from facenet_jax.training.step import make_train_step
from facenet_jax.triplets import triplet_loss_and_gradient

# Rows of the Gram matrix that the floor holds at once: of 128, 512 and 2,048 the fastest at 180, 360 and 1,800 faces.
_FLOOR_BLOCK = 128


class Contenders:
    """A batch, and the functions that were compiled for it."""

    def __init__(self) -> None:
        self.calls: dict[str, Callable[[], float]] = {}

    def read(self, batch: str) -> dict[str, Any]:
        """Reads an .npz file with embeddings [B, d] and labels [B]."""
        with np.load(batch) as arrays:
            self.embeddings, self.labels = jnp.asarray(arrays["embeddings"]), jnp.asarray(arrays["labels"])
        return {}

    def prepare(self, contender: str) -> dict[str, Any]:
        """Compiles one for the batch; returns its temporaries and whether they fit the memory limit."""
        mesh, valid = make_mesh(1), jnp.ones(self.labels.shape, bool)
        functions: dict[str, Callable] = {
            "ours": lambda e, labels: triplet_loss_and_gradient(e, labels, valid, mesh=mesh),
            "tiled": lambda e, labels: jax.value_and_grad(tiled_semi_hard_loss)(e, labels),
            "floor": lambda e, labels: floor(e),
        }
        compiled = jax.jit(functions[contender]).lower(self.embeddings, self.labels).compile()
        memory: Any = compiled.memory_analysis()
        temporaries = memory.temp_size_in_bytes
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY and temporaries > limit:
            return {"temporaries": temporaries, "fits": False}

        def call() -> float:
            result = jax.block_until_ready(compiled(self.embeddings, self.labels))
            if contender == "ours":
                self.seen = result[1]
            return float(result[0])

        self.calls[contender] = call
        return {"temporaries": temporaries, "fits": True}

    def stats(self) -> dict[str, Any]:
        """The statistics of the batch in the last call of our loss."""
        return {name: float(value) for name, value in self.seen._asdict().items()}

    def run(self, contender: str, calls: int) -> dict[str, Any]:
        """Times a contender that was prepared."""
        return timed(self.calls[contender], calls)


def floor(embeddings: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The least known work: the Gram matrix, one pass over it, and the gradient's two products W X and W^T X.

    The Gram matrix itself is used as W, block by block, so that it is never held whole.

    Args:
      embeddings: float32 [B, d].

    Returns:
      A number that depends on every entry, and an array of the gradient's shape.
    """
    batch, size = embeddings.shape
    precise = jax.lax.Precision.HIGHEST
    block = min(_FLOOR_BLOCK, batch)
    blocks = jnp.pad(embeddings, ((0, -batch % block), (0, 0))).reshape(-1, block, size)

    def one_block(to_exemplars: jax.Array, anchors: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        gram = jnp.dot(embeddings, anchors.T, precision=precise)
        to_exemplars += jnp.dot(gram, anchors, precision=precise)
        return to_exemplars, (jnp.dot(gram.T, embeddings, precision=precise), jnp.min(gram, axis=0))

    to_exemplars, (to_anchors, least) = jax.lax.scan(one_block, jnp.zeros_like(embeddings), blocks)
    return jnp.sum(least), to_exemplars + to_anchors.reshape(-1, size)[:batch]


def training_step(network: str, faces: int, chunk: int, repeats: int) -> dict[str, Any]:
    """Seconds a face of a training step in chunks: the median of some steps, with the network's own input size.

    Args:
      network: the name of its config.
      faces: in the step.
      chunk: faces at once.
      repeats: steps, beyond a first that does not count.
    """
    config = load_config(network, [f"--config.batch.chunk={chunk}"])
    mesh = make_mesh(1)
    model, optimizer = models.from_config(config.model), make_optimizer(config)
    state = create_state(model, config.model.input_size, optimizer, mesh, config.seed)
    step = make_train_step(config, model, optimizer, mesh)
    images = np.random.default_rng(0).integers(0, 256, (faces, *config.model.input_size, 3), np.uint8)
    labels = np.arange(faces, dtype=np.int32) // 6
    batch = DeviceBatch(jnp.asarray(images), jnp.asarray(labels), jnp.ones(faces, bool))
    seconds = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - started)
    return {"seconds_per_face": float(np.median(seconds[1:])) / faces}


if __name__ == "__main__":
    contenders = Contenders()
    serve(
        {
            "read": contenders.read,
            "stats": contenders.stats,
            "prepare": contenders.prepare,
            "run": contenders.run,
            "training_step": training_step,
        }
    )
