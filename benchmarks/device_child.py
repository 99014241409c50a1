"""Times steps of the networks and the triplet loss on JAX's device, asked by lines: see benchmarks/device.py."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.lines import serve
from benchmarks.triplets import make_batch
from facenet_jax import models
from facenet_jax.config import load_config
from facenet_jax.images.change import Changes
from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.training.device_batch import DeviceBatch
from facenet_jax.training.optimizer import make_optimizer
from facenet_jax.training.preflight import bytes_of, matrix_product_rate
from facenet_jax.training.state import abstract_state, create_state
from facenet_jax.training.step import compile_step
from facenet_jax.triplets import triplet_loss_and_gradient


def device() -> dict[str, Any]:
    """The device that JAX runs on."""
    first = jax.devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "devices": jax.device_count()}


def product(dtype: str) -> dict[str, Any]:
    """Floating-point operations a second of a plain matrix product."""
    return {"rate": matrix_product_rate(make_mesh(1), dtype)}


def step(network: str, options: list[str], turns: int, steps: int) -> dict[str, Any]:
    """Times a compiled training step on random pixels that are on the device.

    Args:
      network: the name of a config.
      options: of the config.
      turns, steps: the median of this many turns, each of this many steps sent one after another.
    """
    config, mesh = load_config(network, options), make_mesh(1)
    model, size, optimizer = models.from_config(config.model), tuple(config.model.input_size), make_optimizer(config)
    started = time.perf_counter()
    compiled = compile_step(config, model, optimizer, mesh, abstract_state(model, size, optimizer, mesh))
    seconds_to_compile = time.perf_counter() - started
    state = create_state(model, size, optimizer, mesh, config.seed)
    faces = config.batch.size
    images = np.random.default_rng(0).integers(0, 256, (faces, *size, 3), np.uint8)
    labels = np.arange(faces, dtype=np.int32) // config.batch.faces_per_identity
    changes = Changes.of(config.data)
    numbers = jnp.asarray(changes.draw(config.seed, 0, np.arange(faces), size)) if changes else None
    batch = DeviceBatch(jnp.asarray(images), jnp.asarray(labels), jnp.ones(faces, bool), numbers)

    def run() -> Any:
        nonlocal state
        state, metrics = compiled(state, batch)
        return metrics

    return {
        "seconds": _median(run, turns, steps),
        "faces": faces,
        "multiply_adds": models.totals(model, size)[1],
        "bytes": bytes_of(compiled),
        "seconds_to_compile": seconds_to_compile,
    }


def triplets(size: int, turns: int, calls: int) -> dict[str, Any]:
    """Times value and gradient of the loss, and the floor: the Gram matrix and one product, with the same precision.

    Args:
      size: faces in the batch.
      turns, calls: the median of this many turns, each of this many calls sent one after another.
    """
    embeddings, labels = (jnp.asarray(array) for array in make_batch(size))
    mesh, valid, precise = make_mesh(1), jnp.ones(size, bool), jax.lax.Precision.HIGHEST
    started = time.perf_counter()
    ours = jax.jit(lambda e, labels: triplet_loss_and_gradient(e, labels, valid, mesh=mesh)[::2])
    compiled = ours.lower(embeddings, labels).compile()
    seconds_to_compile = time.perf_counter() - started
    memory: Any = compiled.memory_analysis()
    floor = jax.jit(lambda e: jnp.dot(jnp.dot(e, e.T, precision=precise), e, precision=precise))
    return {
        "seconds": _median(lambda: compiled(embeddings, labels), turns, calls),
        "floor": _median(lambda: floor(embeddings), turns, calls),
        "temporaries": memory.temp_size_in_bytes,
        "seconds_to_compile": seconds_to_compile,
    }


def _median(call: Callable[[], Any], turns: int, calls: int) -> float:
    """Seconds a call: the median of the turns, after two calls that do not count."""
    for _ in range(2):
        jax.block_until_ready(call())
    seconds = []
    for _ in range(turns):
        started = time.perf_counter()
        for _ in range(calls):
            result = call()
        jax.block_until_ready(result)
        seconds.append((time.perf_counter() - started) / calls)
    return statistics.median(seconds)


if __name__ == "__main__":
    serve({"device": device, "product": product, "step": step, "triplets": triplets})
