"""Operations written in the form that XLA runs fastest on CPU, and as fast as any on other devices.

Each says why it is written out, what was measured, and what a report upstream would say. When XLA has changed, the
plain form in that text can take its place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A convolution with 'SAME' padding: [N, r, c, in] with [k, k, in, out] -> [N, r / s, c / s, out].

    A 1x1 convolution of stride 1 is a matrix product, and is faster on CPU when it is called one: [24, 12, 12, 256] to
    128 channels took 14 ms with both gradients, as a convolution 23 ms (processor time on an AMD EPYC, JAX 0.10.2).
    """
    if kernel.shape[:2] == (1, 1) and stride == 1:
        return jnp.dot(x, kernel[0, 0])
    return _convolve(x, kernel, stride)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A convolution with 'SAME' padding, whose two gradients are convolutions of the same layout.

    Why: XLA on CPU hands a convolution to its library if it has this layout. It brings other layouts, such as those of
    the derived gradient, into this one, but only outside of loops.
    Measured: within the loop over the chunks of a batch the derived gradient of NN4 took 17 times as long on a CPU. On
    an H200 both take the same time (NN2 in bfloat16, 11,460 images a second written out, 11,510 derived).
    To report upstream (XLA, CPU): "The gradient of conv_general_dilated with respect to its kernel is many times slower
    inside lax.map or lax.scan than outside: its dim_labels are not rewritten to b01f_01io->b01f within a while loop, so
    it does not become a library call. test_convolutions_within_a_loop_are_those_outside shows the layouts."
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


def pool(
    x: jax.Array, window: int, stride: int, combine: Callable[[jax.Array, jax.Array], jax.Array], nothing: float
) -> jax.Array:
    """Combines window x window neighbourhoods, first along columns, then along rows: shifted copies, no reduce_window.

    Why: XLA on CPU takes the gradient of reduce_window's maximum by select-and-scatter, which is not fused and not
    vectorised. The gradient of a few elementwise maxima is fused.
    Measured (the gradient of a 3x3 maximum of float32 [24, 48, 48, 64], processor time on an AMD EPYC, JAX 0.10.2): 43
    ms with stride 2 and 95 ms with stride 1, by reduce_window 122 and 291 ms.
    To report upstream (XLA, CPU): "select-and-scatter of a 3x3 window takes 3 times as long as the gradient of the same
    maximum written as shifted slices: jax.grad of flax.linen.max_pool(x, (3, 3), (2, 2), 'SAME') shows it."
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
def local_response_norm(x: jax.Array) -> jax.Array:
    """x / y^0.75 with y = 2 + 1e-4 * the sum of squares over the 5 channels around: float32 [..., C] -> [..., C].

    Why: XLA on CPU fuses the derived gradient of five shifted slices badly, and takes a power by exponential and
    logarithm, where two square roots do. By hand only x has to be kept.
    Measured (the gradient of float32 [24, 48, 48, 64], processor time on an AMD EPYC, JAX 0.10.2): 42 ms, and 431 ms
    derived from the formula with a power. The derived gradient of the slices alone was measured as 4 times slower.
    To report upstream (XLA, CPU): "The gradient of a sum of five slices, shifted along the last axis of a padded array,
    is a chain of pads that is worked out again for each consumer: 4 times slower than the same sum of slices by hand."
    """
    power, _ = _power(x)
    return x * power


def _local_response_norm_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return local_response_norm(x), x


def _local_response_norm_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    # The window is symmetric, so its sum is its own transpose; and only x has to be kept.
    power, inverse = _power(x)
    return (gradient * power - (2 * 0.75 * _ALPHA) * x * _channel_sums(gradient * x * power * inverse),)


local_response_norm.defvjp(_local_response_norm_forward, _local_response_norm_backward)


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
