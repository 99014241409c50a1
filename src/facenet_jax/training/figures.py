"""Metrics of steps, kept on the devices until they are read, so that no step waits for the host."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from facenet_jax.runtime.mesh import replicated
from facenet_jax.training.optimizer import learning_rate
from facenet_jax.training.step import StepMetrics
from facenet_jax.triplets import TripletStats

# A row: the leaves of StepMetrics, and the rate. Then what is logged of it, in that order.
_FIGURES = ("loss", "gradient_norm", *TripletStats._fields, "learning_rate")
_LOGGED = (
    *("loss", "active_share", "mean_ap", "mean_an", "spread"),
    *("pairs", "triplets", "gradient_norm", "learning_rate"),
)


class _Kept(NamedTuple):
    """On the devices.

    Attributes:
      steps: int32 scalar, taken so far.
      rows: float32 [most, figures], those of the step before `steps` in row (steps - 1) % most.
    """

    steps: jax.Array
    rows: jax.Array


class Figures:
    """What the steps of a run measured; at most two of them are in flight, so that the devices have one to go on with.

    Args:
      config: of the run; it is read at least every `log.every` or `checkpoint.every` steps, whichever is less.
      mesh: of the run.
      first_step: steps taken before.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh, first_step: int) -> None:
        most, rate = min(config.log.every, config.checkpoint.every, config.steps), learning_rate(config)

        def empty() -> _Kept:
            return _Kept(jnp.int32(first_step), jnp.zeros((most, len(_FIGURES)), jnp.float32))

        def kept(before: _Kept, measured: StepMetrics) -> _Kept:
            row = jnp.stack([jnp.float32(figure) for figure in (*jax.tree.leaves(measured), rate(before.steps))])
            return _Kept(before.steps + 1, before.rows.at[before.steps % most].set(row))

        everywhere = replicated(mesh)
        self._kept: _Kept = jax.jit(empty, out_shardings=everywhere)()
        self._keep = jax.jit(kept, out_shardings=everywhere, donate_argnums=0)
        self._most = most
        self._sent = self._read = first_step
        self._last: Any = jnp.zeros(())

    def add(self, measured: StepMetrics) -> None:
        """Takes the figures of the step that was just sent, and waits until the one before it is done."""
        before, self._last = self._last, measured.loss
        self._kept = self._keep(self._kept, measured)
        self._sent += 1
        before.block_until_ready()

    def running(self) -> bool:
        """Whether the devices still have a step to do."""
        return not self._last.is_ready()

    def wait(self) -> None:
        """Returns once all steps are done."""
        jax.block_until_ready(self._kept)

    def read(self) -> list[tuple[int, dict[str, float]]]:
        """The figures of the steps since the last time, in one transfer: (step from 1, values). Waits for them."""
        if self._sent == self._read:
            return []
        rows = jax.device_get(self._kept.rows)  # an explicit transfer, which `transfer_guard_device_to_host` lets pass
        steps = range(self._read + 1, self._sent + 1)
        self._read = self._sent
        return [(step, _named(rows[(step - 1) % self._most].tolist())) for step in steps]


def _named(row: list[float]) -> dict[str, float]:
    values = dict(zip(_FIGURES, row, strict=True))
    values["active_share"] = values.pop("active") / max(values["pairs"], 1.0)
    return {name: values[name] for name in _LOGGED}
