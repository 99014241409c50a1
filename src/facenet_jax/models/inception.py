"""The Inception module (Szegedy et al. 2014), with the columns of the paper's Table 2."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from facenet_jax.models.layers import Conv, L2Pool, MaxPool


@dataclass(frozen=True)
class Columns:
    """One row of Table 2 in the table's own columns; 0 or '' stands for an empty cell.

    `pool` is 'm' (max), 'L2' or ''; `project` is the p of 'm, 32p': a 1x1 convolution after the pooling, or 0 for
    none. `stride` is that of the 3x3 and 5x5 convolutions and of the pooling (',2' in the table).
    """

    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    pool: str
    project: int
    stride: int = 1

    def without_5x5(self) -> Columns:
        return replace(self, reduce5x5=0, conv5x5=0)


class Inception(nn.Module):
    """Up to four branches side by side: [N, r, c, in] -> [N, r / s, c / s, sum of the branches' channels].

    The reductions run at the input's resolution; the strided step is the 3x3, the 5x5 and the pooling.
    """

    columns: Columns
    norm: str = "response"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c, conv = self.columns, partial(Conv, norm=self.norm, dtype=self.dtype)
        branches = []
        if c.conv1x1:
            branches.append(conv(c.conv1x1, 1, c.stride, name="conv1x1")(x))
        if c.conv3x3:
            reduced = conv(c.reduce3x3, 1, name="reduce3x3")(x)
            branches.append(conv(c.conv3x3, 3, c.stride, name="conv3x3")(reduced))
        if c.conv5x5:
            reduced = conv(c.reduce5x5, 1, name="reduce5x5")(x)
            branches.append(conv(c.conv5x5, 5, c.stride, name="conv5x5")(reduced))
        if c.pool:
            pooling = {"m": MaxPool, "L2": L2Pool}[c.pool]
            pooled = pooling(3, c.stride, name="pool")(x)
            branches.append(conv(c.project, 1, name="project")(pooled) if c.project else pooled)
        return jnp.concatenate(branches, axis=-1)
