"""The Inception module (Szegedy et al. 2014), with the columns of the paper's Table 2."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.columns
        branches = []
        if c.conv1x1:
            branches.append(Conv(c.conv1x1, 1, c.stride, dtype=self.dtype, name="conv1x1")(x))
        if c.conv3x3:
            reduced = Conv(c.reduce3x3, 1, dtype=self.dtype, name="reduce3x3")(x)
            branches.append(Conv(c.conv3x3, 3, c.stride, dtype=self.dtype, name="conv3x3")(reduced))
        if c.conv5x5:
            reduced = Conv(c.reduce5x5, 1, dtype=self.dtype, name="reduce5x5")(x)
            branches.append(Conv(c.conv5x5, 5, c.stride, dtype=self.dtype, name="conv5x5")(reduced))
        if c.pool:
            pooling = {"m": MaxPool, "L2": L2Pool}[c.pool]
            pooled = pooling(3, c.stride, name="pool")(x)
            branches.append(Conv(c.project, 1, dtype=self.dtype, name="project")(pooled) if c.project else pooled)
        return jnp.concatenate(branches, axis=-1)
