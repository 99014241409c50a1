"""AdaGrad and Adam compared with their formulas, and the schedule of the learning rate."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facenet_jax.config import default_config
from facenet_jax.training.optimizer import learning_rate, make_optimizer


def test_adagrad_by_its_formula():
    config = default_config()
    optimizer = make_optimizer(config)
    rng = np.random.default_rng(0)
    params = jnp.asarray(rng.normal(size=5), jnp.float32)
    want, total = np.asarray(params, np.float64), np.full(5, config.optimizer.initial_accumulator)
    state = optimizer.init(params)
    for _ in range(4):
        gradient = rng.normal(size=5).astype(np.float32)
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        total += gradient.astype(np.float64) ** 2
        want -= 0.05 * gradient / np.sqrt(total)
    np.testing.assert_allclose(params, want, rtol=1e-5)


def test_adam_by_its_formula():
    config = default_config()
    config.optimizer.name, config.optimizer.learning_rate = "adam", 0.01
    optimizer = make_optimizer(config)
    rng = np.random.default_rng(0)
    params = jnp.asarray(rng.normal(size=5), jnp.float32)
    want, mean, square = np.asarray(params, np.float64), np.zeros(5), np.zeros(5)
    state = optimizer.init(params)
    for step in range(1, 5):
        gradient = rng.normal(size=5).astype(np.float32)
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient.astype(np.float64) ** 2
        want -= 0.01 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(params, want, rtol=1e-5)


def test_the_average_of_parameters_follows_its_formula_and_leaves_steps_unchanged():
    config = default_config()
    config.optimizer.weight_average = 0.4
    averaging, plain = make_optimizer(config), make_optimizer(default_config())
    rng = np.random.default_rng(0)
    params = jnp.asarray(rng.normal(size=5), jnp.float32)
    state, plain_state = averaging.init(params), plain.init(params)
    want = np.asarray(params, np.float64)
    for step in range(12):
        gradient = jnp.asarray(rng.normal(size=5), jnp.float32)
        expected, plain_state = plain.update(gradient, plain_state, params)
        updates, state = averaging.update(gradient, state, params)
        np.testing.assert_array_equal(updates, expected)
        params = optax.apply_updates(params, updates)
        kept = min(0.4, (1 + step) / (10 + step))  # a tenth, two elevenths, ... 0.4 from step 5 on
        want = kept * want + (1 - kept) * np.asarray(params, np.float64)
        np.testing.assert_allclose(state.average, want, rtol=1e-5)


def test_a_parameter_without_gradient_stays_where_the_accumulator_starts_at_0():
    config = default_config()
    config.optimizer.initial_accumulator = 0.0
    optimizer = make_optimizer(config)
    params = jnp.ones(3)
    updates, _ = optimizer.update(jnp.zeros(3), optimizer.init(params), params)
    np.testing.assert_array_equal(updates, np.zeros(3))


@pytest.mark.parametrize(("warmup", "finalise"), [(0, 0), (4, 0), (0, 5), (4, 5), (1, 1)])
def test_the_rate_rises_stays_and_falls(warmup, finalise):
    config = default_config()
    config.steps = 20
    config.optimizer.warmup_steps, config.optimizer.finalise_steps = warmup, finalise
    rate = learning_rate(config)
    rates = [float(rate(step)) for step in range(20)]
    assert all(np.diff(rates[: warmup + 1]) >= 0)
    np.testing.assert_allclose(rates[warmup : 20 - finalise], 0.05, rtol=1e-6)
    if warmup > 1:
        np.testing.assert_allclose(rates[0], 0.05 / warmup, rtol=1e-6)
    if finalise:
        assert all(np.diff(rates[19 - finalise :]) < 0)
        np.testing.assert_allclose(rates[-1], config.optimizer.final_learning_rate, rtol=1e-5)
