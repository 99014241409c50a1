"""Every layer compared with a plain float64 loop, and its gradient with differences of that loop."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from facenet_jax.models.layers import (
    AveragePool,
    Columns,
    Conv,
    Dense,
    Flatten,
    Inception,
    L2Normalise,
    L2Pool,
    LocalResponseNorm,
    MaxoutDense,
    MaxPool,
)
from programs import FUSED_AS_USERS

few = settings(max_examples=6, deadline=None)  # every new shape is a compilation
sides = st.integers(1, 9)
seeds = st.integers(0, 2**31 - 1)


def windows(x, window, stride):
    """(row, column, the part of x in the window there), without the padding of 'SAME'."""
    starts = []
    for n in x.shape[1:3]:
        out = -(-n // stride)
        before = max((out - 1) * stride + window - n, 0) // 2
        starts.append([k * stride - before for k in range(out)])
    for i, r in enumerate(starts[0]):
        for j, c in enumerate(starts[1]):
            yield i, j, x[:, max(r, 0) : r + window, max(c, 0) : c + window]


def pooled(x, window, stride, reduce):
    y = np.zeros((x.shape[0], -(-x.shape[1] // stride), -(-x.shape[2] // stride), x.shape[3]))
    for i, j, part in windows(x, window, stride):
        y[:, i, j] = reduce(part)
    return y


def max_pooled(x, window, stride):
    return pooled(x, window, stride, lambda part: part.max(axis=(1, 2)))


def l2_pooled(x, window, stride):
    return pooled(x, window, stride, lambda part: np.sqrt((part**2).sum(axis=(1, 2))))


def response_normalised(x):
    y = np.zeros_like(x)
    for c in range(x.shape[-1]):
        near = x[..., max(c - 2, 0) : c + 3]
        y[..., c] = x[..., c] / (2 + 1e-4 * (near**2).sum(axis=-1)) ** 0.75
    return y


def convolved(x, kernel, bias, stride):
    k = kernel.shape[0]
    padded = np.pad(x, [(0, 0), (k, k), (k, k), (0, 0)])
    # Windows start where 'SAME' lets them, k further on in the padded image.
    y = np.zeros((x.shape[0], -(-x.shape[1] // stride), -(-x.shape[2] // stride), kernel.shape[3]))
    before = [max((y.shape[a] - 1) * stride + k - x.shape[a], 0) // 2 for a in (1, 2)]
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            r, c = i * stride - before[0] + k, j * stride - before[1] + k
            y[:, i, j] = np.einsum("nrci,rcif->nf", padded[:, r : r + k, c : c + k], kernel) + bias
    return y


def value_and_gradient(function, x, weights):
    """function(x) and the gradient of sum(function(x) * weights), in float32 and in one compilation."""

    def both(x, weights):
        y, pull = jax.vjp(function, x)
        return y, pull(weights)[0]

    return jax.jit(both)(jnp.asarray(x, jnp.float32), jnp.asarray(weights, jnp.float32))


def assert_follows(function, reference, x, rng):
    """Values must equal the reference, and the derivative in a random direction a difference of the reference."""
    expected, direction = reference(x), rng.standard_normal(x.shape)
    weights = rng.standard_normal(expected.shape)
    y, gradient = value_and_gradient(function, x, weights)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-7)
    step = 1e-6
    difference = np.sum(weights * (reference(x + step * direction) - reference(x - step * direction))) / (2 * step)
    scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
    assert abs(np.sum(np.asarray(gradient, np.float64) * direction) - difference) < 1e-4 * scale + 1e-6


@few
@given(rows=sides, columns=sides, window=st.integers(1, 4), stride=st.integers(1, 3), seed=seeds)
def test_max_pooling(rows, columns, window, stride, seed):
    rng = np.random.default_rng(seed)
    x = rng.permutation(2 * rows * columns * 3).reshape(2, rows, columns, 3) - 7.0  # no ties
    expected = max_pooled(x, window, stride)
    weights = rng.standard_normal(expected.shape)
    y, gradient = value_and_gradient(lambda v: MaxPool(window, stride).apply({}, v), x, weights)
    size, step = (window, window), (stride, stride)
    flax_y, flax_gradient = value_and_gradient(lambda v: nn.max_pool(v, size, step, "SAME"), x, weights)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(y, flax_y)
    np.testing.assert_allclose(gradient, flax_gradient, atol=1e-5)


@few
@given(rows=sides, columns=sides, stride=st.integers(1, 2), seed=seeds)
def test_l2_pooling(rows, columns, stride, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, rows, columns, 3))
    assert_follows(lambda v: L2Pool(3, stride).apply({}, v), lambda v: l2_pooled(v, 3, stride), x, rng)


def test_l2_pooling_of_zeros_has_gradient_zero():
    x = np.zeros((1, 5, 6, 2))
    x[0, 0, 0, 0] = -3.0
    y, gradient = value_and_gradient(lambda v: L2Pool().apply({}, v), x, np.ones(x.shape))
    assert np.sum(y) == 4 * 3.0  # the four windows that see the corner
    np.testing.assert_array_equal(gradient, np.where(x, -4.0, 0.0))


@few
@given(channels=st.integers(1, 12), scale=st.sampled_from([0.1, 10.0, 300.0]), seed=seeds)
def test_local_response_normalisation(channels, scale, seed):
    rng = np.random.default_rng(seed)
    x = scale * rng.standard_normal((2, 3, 2, channels))
    assert_follows(lambda v: LocalResponseNorm().apply({}, v), response_normalised, x, rng)


@few
@given(
    rows=sides,
    columns=sides,
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(1, 2),
    relu=st.booleans(),
    seed=seeds,
)
def test_convolution(rows, columns, kernel, stride, relu, seed):
    rng = np.random.default_rng(seed)
    x, w, b = rng.standard_normal((2, rows, columns, 3)), rng.standard_normal((kernel, kernel, 3, 4)), rng.random(4)
    parameters = {"params": {"kernel": jnp.asarray(w, jnp.float32), "bias": jnp.asarray(b, jnp.float32)}}
    expected = convolved(x, w, b, stride)
    y = Conv(4, kernel, stride, relu).apply(parameters, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(y, np.maximum(expected, 0) if relu else expected, atol=1e-4)


@settings(max_examples=15)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    kernel_and_stride=st.sampled_from([(1, 2), (2, 2), (3, 1), (3, 2), (5, 1), (5, 2), (7, 2)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_gradient_of_a_convolution_is_that_of_jax(rows, columns, kernel_and_stride, seed):
    kernel, stride = kernel_and_stride
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(2, rows, columns, 3)), jnp.float32)
    layer = Conv(4, kernel, stride, relu=False)
    params = layer.init(jax.random.key(seed), x)["params"]
    weights = jnp.asarray(rng.normal(size=layer.apply({"params": params}, x).shape), jnp.float32)

    def derived(params, x):
        y = lax.conv_general_dilated(
            x, params["kernel"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.sum(weights * (y + params["bias"]))

    found = jax.grad(lambda params, x: jnp.sum(weights * layer.apply({"params": params}, x)), (0, 1))(params, x)
    wanted = jax.grad(derived, (0, 1))(params, x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_convolutions_in_a_loop_use_the_fast_layout():
    # Within a loop XLA uses its fast convolution on a CPU only in this layout; any other is many times slower.
    def gradient(x):
        layer, params = Conv(4, 3, 2), {"kernel": jnp.ones((3, 3, 3, 4)), "bias": jnp.zeros(4)}
        return jax.grad(lambda params, x: jnp.sum(layer.apply({"params": params}, x) ** 2), (0, 1))(params, x)

    lowered = jax.jit(lambda x: lax.map(gradient, x)).lower(jnp.ones((3, 2, 9, 9, 3)))
    layouts = re.findall(r"dim_labels=(\S+?),", lowered.compile(compiler_options=FUSED_AS_USERS).as_text())
    assert len(layouts) == 3
    assert set(layouts) == {"b01f_01io->b01f"}


def test_a_1x1_convolution_equals_that_of_lax():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((2, 5, 4, 8), (1, 1, 8, 6)))
    parameters = {"params": {"kernel": kernel, "bias": jnp.zeros(6)}}
    expected = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(Conv(6, 1, relu=False).apply(parameters, x), expected, atol=1e-5)


def test_dense_and_maxout():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((3, 5)), rng.standard_normal((2, 5, 4)), rng.standard_normal((2, 4))
    pieces = [x @ w[k] + b[k] for k in range(2)]
    v = jnp.asarray(x, jnp.float32)

    def parameters(w, b):
        return {"params": {"kernel": jnp.asarray(w, jnp.float32), "bias": jnp.asarray(b, jnp.float32)}}

    np.testing.assert_allclose(MaxoutDense(4).apply(parameters(w, b), v), np.maximum(*pieces), atol=1e-5)
    np.testing.assert_allclose(Dense(4).apply(parameters(w[0], b[0]), v), pieces[0], atol=1e-5)
    np.testing.assert_allclose(
        Dense(4, relu=True).apply(parameters(w[0], b[0]), v), np.maximum(pieces[0], 0), atol=1e-5
    )


def test_average_pooling_and_flattening():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    v = jnp.asarray(x, jnp.float32)
    np.testing.assert_allclose(AveragePool().apply({}, v), x.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_array_equal(Flatten().apply({}, v), np.asarray(v).reshape(2, -1))


@few
@given(scale=st.sampled_from([1e-4, 1.0, 1e6]), dtype=st.sampled_from(["float32", "bfloat16"]), seed=seeds)
def test_normalising_gives_float32_of_norm_one(scale, dtype, seed):
    x = jnp.asarray(scale * np.random.default_rng(seed).standard_normal((3, 64)), dtype)
    y = L2Normalise().apply({}, x)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(np.asarray(y, np.float64), axis=-1), 1, atol=1e-6)


def test_normalising_a_zero_vector_has_a_finite_gradient():
    gradient = jax.grad(lambda v: jnp.sum(L2Normalise().apply({}, v)))(jnp.zeros((2, 64)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_inception_concatenates_its_branches_in_the_tables_order(stride):
    columns = Columns(4, 4, 6, 4, 7, "m", 4 if stride == 1 else 0, stride)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 5, 6, 8)), jnp.float32)
    module = Inception(columns)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    parameters = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32), shapes)
    y = jax.jit(module.apply)(parameters, x)
    p = parameters["params"]

    def branch(name, v, s=1):
        return convolved(v, np.asarray(p[name]["kernel"], np.float64), np.asarray(p[name]["bias"]), s).clip(0)

    v = np.asarray(x, np.float64)
    pool = max_pooled(v, 3, stride)
    branches = [
        branch("conv1x1", v, stride),
        branch("conv3x3", branch("reduce3x3", v), stride),
        branch("conv5x5", branch("reduce5x5", v), stride),
        branch("project", pool) if stride == 1 else pool,
    ]
    np.testing.assert_allclose(y, np.concatenate(branches, axis=-1), rtol=1e-4, atol=1e-3)
    without = jax.eval_shape(Inception(columns.without_5x5()).init, jax.random.key(0), x)["params"]
    assert {"reduce5x5", "conv5x5"} & set(without) == set()


@pytest.mark.parametrize(
    ("layer", "shape", "variance"),
    [
        (Conv(64, 3), (1, 4, 4, 64), 2 / (9 * 64)),
        (Dense(256, relu=True), (1, 128), 2 / 128),
        (Dense(256), (1, 128), 1 / 128),
        (MaxoutDense(256, pieces=2), (1, 128), 1 / 128),
    ],
)
def test_initial_weights_have_the_documented_variance(layer, shape, variance):
    parameters = layer.init(jax.random.key(0), jnp.zeros(shape))["params"]
    assert np.var(parameters["kernel"]) == pytest.approx(variance, rel=0.05)
    assert not np.any(parameters["bias"])


@pytest.mark.parametrize("layer", [MaxPool(), L2Pool(), LocalResponseNorm(), Conv(4, 1, dtype="bfloat16")])
def test_bfloat16_stays_bfloat16_and_close(layer):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 5, 4)), jnp.float32)
    parameters = layer.init(jax.random.key(1), x)
    y = layer.apply(parameters, x.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    wide = layer.clone(dtype=jnp.float32) if isinstance(layer, Conv) else layer
    np.testing.assert_allclose(np.asarray(y, np.float32), wide.apply(parameters, x), rtol=0.03, atol=0.05)


class TestNorms:
    @few
    @given(stride=st.integers(1, 2), kernel=st.sampled_from([1, 3]), seed=seeds)
    def test_a_standardised_kernel_has_mean_0_and_the_variance_for_relu(self, stride, kernel, seed):
        rng = np.random.default_rng(seed)
        x, shape = rng.standard_normal((2, 5, 4, 3)), (kernel, kernel, 3, 4)
        weights, gain, bias = rng.normal(3, 2, shape), rng.standard_normal(4), rng.standard_normal(4)
        flat = weights.reshape(-1, 4)
        standardised = (flat - flat.mean(0)) / (flat.std(0) * len(flat) ** 0.5) * np.sqrt(2 / (1 - 1 / np.pi))
        expected = convolved(x, (standardised * gain).reshape(shape), bias, stride)
        params = {"params": {"kernel": weights, "gain": gain, "bias": bias}}
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
        y = Conv(4, kernel, stride, relu=False, norm="weight").apply(params, jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)

    def test_the_size_of_a_standardised_kernel_has_no_effect(self):
        layer, x = Conv(8, 3, norm="weight"), jnp.ones((1, 5, 5, 3))
        params = layer.init(jax.random.key(0), x)["params"]
        larger = params | {"kernel": 7 * params["kernel"] + 3}
        np.testing.assert_allclose(layer.apply({"params": params}, x), layer.apply({"params": larger}, x), atol=1e-5)
