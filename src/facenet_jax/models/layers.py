"""The layers that the rows of Tables 1 and 2 are made of.

Every layer takes [N, rows, columns, channels] (the fully connected ones [N, features]) and computes in its `dtype`;
parameters are float32. Padding is 'SAME' throughout: a stride of s turns n rows into ceil(n / s).

Initial weights are the project's choice, as the paper names none: He's before a ReLU (truncated normal of variance
2 / fan-in), LeCun's (1 / fan-in) elsewhere, which for a maxout of two pieces keeps the mean square as He's does for a
ReLU. Biases begin at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

# What convolutions give goes by this name where it is decided what to keep for the gradient (jax.checkpoint).
PRODUCT = "product"

# What keeps activations in range: response normalisation where the paper has it; or, in its place, kernels standardised
# (Brock, De, Smith, Simonyan 2021).
NORMS = ("response", "weight")

_he = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
_lecun = nn.initializers.lecun_normal()
_lecun_pieces = nn.initializers.lecun_normal(batch_axis=0)


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
        # XLA on CPU runs a matrix product faster than the same thing called a convolution.
        pointwise = self.kernel == 1 and self.stride == 1
        y = jnp.dot(x, kernel[0, 0]) if pointwise else _convolve(x, kernel, self.stride)
        y = checkpoint_name(y, PRODUCT) + bias
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
        return _pool(x, self.window, self.stride, jnp.maximum, -jnp.inf)


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
        squares = _pool(wide * wide, self.window, self.stride, jnp.add, 0.0)
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
        return _local_response_norm(jnp.asarray(x, jnp.float32)).astype(x.dtype)


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


# The root mean square of a ReLU's output around its mean, for a standard normal input, is 1 / _GAIN.
_GAIN = math.sqrt(2 / (1 - 1 / math.pi))


def standardised(kernel: jax.Array) -> jax.Array:
    """Each output channel's weights with mean 0 and variance 1 / fan-in, times the ReLU's gain (equation 1 there)."""
    axes = tuple(range(kernel.ndim - 1))
    centred = kernel - jnp.mean(kernel, axes, keepdims=True)
    squares = jnp.sum(centred * centred, axes, keepdims=True)
    return centred * (_GAIN * lax.rsqrt(jnp.maximum(squares, 1e-8)))


_LAYOUT = ("NHWC", "HWIO", "NHWC")


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A convolution with 'SAME' padding, whose two gradients are convolutions of the same layout.

    Written out because XLA on CPU brings other layouts into one that its library takes only outside of loops: within
    the loop over chunks a derived gradient took 17 times as long (NN4).
    """
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=_LAYOUT)


def _convolve_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, stride), (x, kernel)


def _convolve_backward(
    stride: int, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    padding_of_x, padding_of_kernel = [], []
    for n, k, out in zip(x.shape[1:3], kernel.shape[:2], gradient.shape[1:3], strict=True):
        reach = (out - 1) * stride + 1
        low = max(reach + k - 1 - n, 0) // 2
        padding_of_x.append((k - 1 - low, n - reach + low))
        padding_of_kernel.append((low, reach + k - 1 - n - low))
    to_x = lax.conv_general_dilated(
        gradient,
        kernel[::-1, ::-1].swapaxes(2, 3),
        (1, 1),
        padding_of_x,
        lhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    # Faces are summed over, as channels are elsewhere: [in, r, c, N] with [r', c', N, out] gives [in, k, k, out].
    to_kernel = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        padding_of_kernel,
        rhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    return to_x, to_kernel.transpose(1, 2, 0, 3)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _pool(
    x: jax.Array, window: int, stride: int, combine: Callable[[jax.Array, jax.Array], jax.Array], nothing: float
) -> jax.Array:
    """Combines window x window neighbourhoods, first along columns, then along rows: shifted copies, no reduce_window.

    XLA on CPU takes the gradient of reduce_window's maximum by select-and-scatter, many times slower than the
    gradient of a few elementwise maxima, which it fuses. On other devices either will do.
    """
    for axis in (2, 1):
        size = x.shape[axis]
        out = -(-size // stride)
        missing = max((out - 1) * stride + window - size, 0)
        padding = [(0, 0, 0)] * x.ndim
        padding[axis] = (missing // 2, missing - missing // 2, 0)
        padded = lax.pad(x, jnp.asarray(nothing, x.dtype), padding)
        reach = (out - 1) * stride + 1
        shifted = [lax.slice_in_dim(padded, k, k + reach, stride, axis) for k in range(window)]
        x = shifted[0]
        for other in shifted[1:]:
            x = combine(x, other)
    return x


_K, _ALPHA, _REACH = 2.0, 1e-4, 2  # beta = 3/4 is in _power


@jax.custom_vjp
def _local_response_norm(x: jax.Array) -> jax.Array:
    power, _ = _power(x)
    return x * power


def _local_response_norm_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _local_response_norm(x), x


def _local_response_norm_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    # Written out because XLA on CPU fuses the derived gradient of five shifted slices badly (measured: 4 times slower).
    # The window is symmetric, so its sum is its own transpose; and only x has to be kept.
    power, inverse = _power(x)
    return (gradient * power - (2 * 0.75 * _ALPHA) * x * _channel_sums(gradient * x * power * inverse),)


_local_response_norm.defvjp(_local_response_norm_forward, _local_response_norm_backward)


def _power(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y^-0.75 and y^-1 for y = k + alpha * sum of squares; two square roots are far cheaper than a power."""
    root = lax.rsqrt(_K + _ALPHA * _channel_sums(x * x))
    return root * jnp.sqrt(root), root * root


def _channel_sums(x: jax.Array) -> jax.Array:
    channels = x.shape[-1]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(_REACH, _REACH)])
    total = padded[..., :channels]
    for k in range(1, 2 * _REACH + 1):
        total = total + padded[..., k : k + channels]
    return total
