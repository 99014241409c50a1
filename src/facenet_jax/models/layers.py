"""The layers used by the rows of Tables 1 and 2.

Every layer takes [N, rows, columns, channels] (the fully connected ones [N, features]) and computes in its `dtype`;
parameters are float32. Padding is 'SAME' throughout: a stride of s turns n rows into ceil(n / s).

Initial weights are the project's choice, as the paper names none: He's before a ReLU (truncated normal of variance
2 / fan-in), LeCun's (1 / fan-in) elsewhere, which for a maxout of two pieces keeps the mean square as He's does for a
ReLU. Biases begin at 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from facenet_jax.models.ops import convolve, local_response_norm, pool

# What convolutions give goes by this name where it is decided what to keep for the gradient (jax.checkpoint).
PRODUCT = "product"

# What keeps activations in range: response normalisation where the paper has it; or, in its place, kernels standardised
# (Brock, De, Smith, Simonyan 2021).
NORMS = ("response", "weight")

_he = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
_lecun = nn.initializers.lecun_normal()
_lecun_pieces = nn.initializers.lecun_normal(batch_axis=0)


# The root mean square of a ReLU's output around its mean, for a standard normal input, is 1 / _GAIN.
_GAIN = math.sqrt(2 / (1 - 1 / math.pi))


def standardised(kernel: jax.Array) -> jax.Array:
    """Each output channel's weights with mean 0 and variance 1 / fan-in, times the ReLU's gain (equation 1 there)."""
    axes = tuple(range(kernel.ndim - 1))
    centred = kernel - jnp.mean(kernel, axes, keepdims=True)
    squares = jnp.sum(centred * centred, axes, keepdims=True)
    return centred * (_GAIN * lax.rsqrt(jnp.maximum(squares, 1e-8)))


class Conv(nn.Module):
    """A square convolution with a bias and, unless told otherwise, a ReLU.

    [N, r, c, in] -> [N, r / s, c / s, features]. Parameters: kernel [k, k, in, features], bias [features].

    `norm` is one of NORMS. With 'weight' the kernel is standardised before it is used, and has a gain [features].
    """

    features: int
    kernel: int
    stride: int = 1
    relu: bool = True
    norm: str = "response"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        chex.assert_rank(x, 4)
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", _he if self.relu else _lecun, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        if self.norm == "weight":
            gain = self.param("gain", nn.initializers.ones, (self.features,), jnp.float32)
            kernel = standardised(kernel) * gain
        x, kernel, bias = (jnp.asarray(a, self.dtype) for a in (x, kernel, bias))
        y = checkpoint_name(convolve(x, kernel, self.stride), PRODUCT) + bias
        return nn.relu(y) if self.relu else y


class MaxPool(nn.Module):
    """The maximum over a window x window neighbourhood: [N, r, c, C] -> [N, r / s, c / s, C].

    Equal maxima share the gradient.
    """

    window: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        chex.assert_rank(x, 4)
        return pool(x, self.window, self.stride, jnp.maximum, -jnp.inf)


class L2Pool(nn.Module):
    """The root of the sum of squares over a window x window neighbourhood ('L2' in Table 2's pooling column).

    [N, r, c, C] -> [N, r / s, c / s, C]. The gradient is 0 where the neighbourhood is all zeros (the root has none
    there, and after a ReLU such neighbourhoods are common).
    """

    window: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        chex.assert_rank(x, 4)
        wide = jnp.asarray(x, jnp.float32)  # squares lose too much in bfloat16
        squares = pool(wide * wide, self.window, self.stride, jnp.add, 0.0)
        some = squares > 0
        return jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1.0)), 0.0).astype(x.dtype)


class AveragePool(nn.Module):
    """The mean over all positions ('avg pool' in Table 2): [N, r, c, C] -> [N, C]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        chex.assert_rank(x, 4)
        return jnp.mean(x, axis=(1, 2))


class LocalResponseNorm(nn.Module):
    """Local response normalisation ('norm', 'rnorm' in the tables) over neighbouring channels, shape kept.

    x / (k + alpha * sum of squares over the 5 channels around)^0.75. The paper names no constants; these are AlexNet's
    (Krizhevsky, Sutskever, Hinton 2012, section 3.3): k = 2, alpha = 1e-4 on the sum, beta = 0.75.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        chex.assert_rank(x, 4)
        return local_response_norm(jnp.asarray(x, jnp.float32)).astype(x.dtype)


class Join(nn.Module):
    """Unit vectors of several networks as one: [N, d] each -> [N, networks * d] of norm 1."""

    @nn.compact
    def __call__(self, points: Sequence[jax.Array]) -> jax.Array:
        chex.assert_rank(points, 2)
        return jnp.concatenate(points, axis=1) / math.sqrt(len(points))


class Flatten(nn.Module):
    """All positions and channels in one row ('concat' in Table 1): [N, r, c, C] -> [N, r * c * C]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], -1)


class Dense(nn.Module):
    """A fully connected layer with a bias, linear unless told otherwise: [N, in] -> [N, features].

    Parameters: kernel [in, features], bias [features]. The networks leave their last one in float32 whatever the
    others compute in: it costs next to nothing, and distances are small differences of its outputs.
    """

    features: int
    relu: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        chex.assert_rank(x, 2)
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", _he if self.relu else _lecun, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = (jnp.asarray(a, self.dtype) for a in (x, kernel, bias))
        y = jnp.dot(x, kernel) + bias
        return nn.relu(y) if self.relu else y


class MaxoutDense(nn.Module):
    """The maximum of p fully connected layers (Goodfellow et al. 2013; Table 1's fc1, fc2): [N, in] -> [N, features].

    Parameters: kernel [p, in, features], bias [p, features].
    """

    features: int
    pieces: int = 2
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        chex.assert_rank(x, 2)
        kernel = self.param("kernel", _lecun_pieces, (self.pieces, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.pieces, self.features), jnp.float32)
        x, kernel, bias = (jnp.asarray(a, self.dtype) for a in (x, kernel, bias))
        return jnp.max(jnp.einsum("ni,pif->pnf", x, kernel) + bias[:, None], axis=0)


class L2Normalise(nn.Module):
    """Onto the unit sphere (section 3, Figure 2): [N, d] of any float type -> float32 [N, d] of norm 1.

    Always in float32, whatever computed x. A zero vector stays zero, with a finite gradient.
    """

    epsilon: float = 1e-12

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        chex.assert_rank(x, 2)
        x = jnp.asarray(x, jnp.float32)
        squares = jnp.sum(x * x, axis=-1, keepdims=True)
        return x * lax.rsqrt(jnp.maximum(squares, self.epsilon))


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
    """The Inception module (Szegedy et al. 2014): up to four branches in parallel, with the columns of Table 2.

    [N, r, c, in] -> [N, r / s, c / s, sum of the branches' channels]. The reductions run at the input's resolution; the
    strided step is the 3x3, the 5x5 and the pooling.
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
