"""A curriculum: selection and margin that change with the step (section 1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from facenet_jax.triplets.harmonic import harmonic_loss_and_gradient
from facenet_jax.triplets.loss import TripletStats, triplet_loss_and_gradient
from facenet_jax.triplets.selection import Selection


class Stage(NamedTuple):
    """How triplets are selected from a step on.

    Attributes:
      from_step: how many steps have been taken when it begins; the first stage's is 0.
      selection: which triplets.
      margin: alpha of equation (1).
    """

    from_step: int
    selection: Selection
    margin: float


def staged_loss_and_gradient(
    embeddings: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    mesh: Mesh,
    stages: Sequence[Stage],
    step: jax.Array,
    divide_by: str = "pairs",
    seed: int = 0,
    old: jax.Array | None = None,
    weight: float = 1.0,
) -> tuple[jax.Array, TripletStats, jax.Array]:
    """`triplet_loss_and_gradient` at the stage that a step belongs to, in one program for all stages.

    Args:
      embeddings: as for `triplet_loss`, and so are the others.
      labels: int32 [B].
      valid: bool [B].
      mesh: over which the batch is divided.
      stages: in order of from_step.
      step: integer scalar, the steps taken: a resumed run is in the stage that it would have been in.
      divide_by: what the sum is divided by.
      seed: of random negatives.
      old: [B, d], the points of an old network that these are to be comparable with, see `harmonic_loss_and_gradient`.
      weight: of that, where there are old points.
    """
    stage, margin = _stage_of(stages, step), margin_at(stages, step)
    # A stage that changes the margin alone needs no program of its own.
    selections = list(dict.fromkeys(stage.selection for stage in stages))
    which = jnp.array([selections.index(stage.selection) for stage in stages])[stage]
    arguments = {"mesh": mesh, "divide_by": divide_by, "seed": seed}
    branches = [partial(_at_stage, selection=selection, weight=weight, arguments=arguments) for selection in selections]
    return jax.lax.switch(which, branches, embeddings, old, labels, valid, margin, step)


def margin_at(stages: Sequence[Stage], step: jax.Array) -> jax.Array:
    """The margin in force after a number of steps, a float32 scalar."""
    return jnp.array([stage.margin for stage in stages], jnp.float32)[_stage_of(stages, step)]


def _stage_of(stages: Sequence[Stage], step: jax.Array) -> jax.Array:
    return jnp.sum(step >= jnp.array([stage.from_step for stage in stages])) - 1


def _at_stage(embeddings, old, labels, valid, margin, step, *, selection, weight, arguments):  # type: ignore[no-untyped-def]
    options = {"selection": selection, "margin": margin, "step": step, **arguments}
    if old is not None:
        return harmonic_loss_and_gradient(embeddings, old, labels, valid, weight=weight, **options)
    return triplet_loss_and_gradient(embeddings, labels, valid, **options)
