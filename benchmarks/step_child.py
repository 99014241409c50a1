"""Times embeddings of a batch and the gradient of their weighted sum by our networks: see benchmarks/step.py."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.lines import serve, timed
from facenet_jax import models
from facenet_jax.models.networks import apply_network
from facenet_jax.training.step import embed_in_parts


class Ours:
    """One network with standardised kernels at 96x96, and a batch."""

    def prepare(self, network: str, faces: int, in_parts: bool) -> dict[str, Any]:
        """Compiles the step, and runs it once."""
        model = models.build(network, norm="weight")
        rng = np.random.default_rng(0)
        images = jnp.asarray(rng.integers(0, 256, (faces, 96, 96, 3), np.uint8))
        weights = jnp.asarray(rng.standard_normal((faces, 128)), jnp.float32)
        params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 96, 96, 3)))["params"]
        embed = partial(apply_network, model)
        if in_parts:
            embed = partial(embed_in_parts, embed)

        def step(params: Any) -> Any:
            points, backward = jax.vjp(lambda params: embed(params, images), params)
            return points, backward(weights)

        compiled = jax.jit(step)
        self._run = lambda: float(jax.block_until_ready(compiled(params))[0][0, 0])
        return {"value": self._run()}

    def run(self, calls: int) -> dict[str, Any]:
        """See `timed`."""
        return timed(self._run, calls)


if __name__ == "__main__":
    ours = Ours()
    serve({"prepare": ours.prepare, "run": ours.run})
