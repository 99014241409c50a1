"""One step gives the same, except for rounding, with any chunks and meshes, and ignores masked rows."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facenet_jax.config import default_config
from facenet_jax.datasets.drawn import render
from facenet_jax.errors import InputError
from facenet_jax.images.change import Changes
from facenet_jax.models.layers import AveragePool, Conv, Dense, L2Normalise, L2Pool, LocalResponseNorm
from facenet_jax.models.networks import Ensemble, Network
from facenet_jax.planning.hlo import collectives
from facenet_jax.runtime.mesh import make_mesh, padded_batch_size
from facenet_jax.training import step as step_module
from facenet_jax.training.device_batch import DeviceBatch, abstract_batch
from facenet_jax.training.embedding import make_embed
from facenet_jax.training.optimizer import make_optimizer, with_average
from facenet_jax.training.state import abstract_state, bytes_of_state, create_state, shardings_of
from facenet_jax.training.step import compile_step, make_train_step
from facenet_jax.triplets import harmonic_loss_and_gradient
from networks import SMALL_ROWS
from programs import FUSED_AS_USERS

SIZE = (32, 32)
BATCH = 32
NETWORK = Network(SMALL_ROWS, "small", embedding_size=64)
OPTIMIZER = make_optimizer(default_config())


def config_with(chunk=0, rematerialise=False):
    config = default_config()
    config.batch.chunk, config.batch.rematerialise = chunk, rematerialise
    return config


@cache
def step_on(devices, chunk=0, rematerialise=False, listed=False):
    return make_train_step(config_with(chunk, rematerialise), NETWORK, OPTIMIZER, make_mesh(devices), listed)


def fresh_state(devices):
    return create_state(NETWORK, SIZE, OPTIMIZER, make_mesh(devices), seed=3)


@cache
def some_batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, *SIZE, 3)).astype(np.uint8)
    return DeviceBatch(images, np.repeat(np.arange(8), 4).astype(np.int32), np.arange(BATCH) != 5)


@cache
def one_device():
    state, metrics = step_on(1)(fresh_state(1), some_batch())
    return jax.device_get(state), jax.device_get(metrics)


def assert_same_step(found, rtol):
    (state, metrics), (want_state, want_metrics) = jax.device_get(found), one_device()
    np.testing.assert_allclose(metrics.loss, want_metrics.loss, rtol=1e-5)
    np.testing.assert_allclose(metrics.gradient_norm, want_metrics.gradient_norm, rtol=1e-4)
    assert metrics.triplets.pairs == want_metrics.triplets.pairs
    before = jax.device_get(fresh_state(1)).params

    def moved(params):
        return np.concatenate([(a - b).ravel() for a, b in zip(*map(jax.tree.leaves, (params, before)), strict=True)])

    want, got = moved(want_state.params), moved(state.params)
    assert np.linalg.norm(want) > 0
    assert np.linalg.norm(got - want) < rtol * np.linalg.norm(want)


@pytest.mark.parametrize(("devices", "chunk"), [(8, 0), (1, 8), (8, 2)])
def test_the_step_does_not_depend_on_devices_or_chunks(devices, chunk):
    assert_same_step(step_on(devices, chunk)(fresh_state(devices), some_batch()), rtol=1e-4)


def test_the_step_does_not_depend_on_parts(monkeypatch):
    monkeypatch.setattr(step_module, "_FEWEST_ROWS", 6)  # 4 parts of 8 rows; one_device() has one of 32
    one_device()
    step = make_train_step(default_config(), NETWORK, OPTIMIZER, make_mesh(1))
    found = step(fresh_state(1), some_batch())
    assert_same_step(found, rtol=1e-4)
    pairs = zip(*(jax.tree.leaves(jax.device_get(s).params) for s in (found[0], one_device()[0])), strict=True)
    assert any(np.any(part != whole) for part, whole in pairs)  # rounding differs, so parts were used


class Tall(nn.Module):
    """Its activations take far more memory than its parameters, as in the paper's networks."""

    @nn.compact
    def __call__(self, pixels):
        for _ in range(3):
            pixels = L2Pool()(LocalResponseNorm()(Conv(16, 3)(pixels)))
        return L2Normalise()(Dense(64)(AveragePool()(pixels)))


def bytes_of_temporaries(**options):
    mesh = make_mesh(1)
    step = make_train_step(config_with(**options), Tall(), OPTIMIZER, mesh)
    state = abstract_state(Tall(), SIZE, OPTIMIZER, mesh)
    batch = abstract_batch(BATCH, SIZE, mesh, changed=False)
    program = step.lower(state, batch).compile(compiler_options=FUSED_AS_USERS)
    return program.memory_analysis().temp_size_in_bytes


def test_chunks_and_rematerialising_take_less_memory():
    whole = bytes_of_temporaries()
    assert bytes_of_temporaries(rematerialise=True) < 0.9 * whole
    assert bytes_of_temporaries(chunk=4) < 0.2 * whole
    assert bytes_of_temporaries(chunk=4, rematerialise=True) < 0.9 * bytes_of_temporaries(chunk=4)


def test_rematerialising_gives_the_same_gradient():
    assert_same_step(step_on(1, rematerialise=True)(fresh_state(1), some_batch()), rtol=1e-4)


@pytest.mark.parametrize(("devices", "chunk"), [(1, 0), (8, 2)])
def test_only_listed_triplets_count(devices, chunk):
    batch = some_batch()
    step = step_on(devices, chunk, listed=True)
    _, metrics = jax.device_get(step(fresh_state(devices), batch))
    points = np.asarray(make_embed(NETWORK, make_mesh(1))(fresh_state(1).params, batch.images), np.float64)
    triplets = [(a, a + 1, a + 2) for a in range(0, BATCH - 2, 3) if batch.valid[a : a + 3].all()]
    d_ap = [np.sum((points[a] - points[p]) ** 2) for a, p, _ in triplets]
    d_an = [np.sum((points[a] - points[n]) ** 2) for a, _, n in triplets]
    hinges = np.maximum(np.array(d_ap) - d_an + 0.2, 0)
    assert metrics.triplets.pairs == metrics.triplets.triplets == len(triplets) == 9  # row 5 is masked
    np.testing.assert_allclose(metrics.loss, hinges.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics.triplets.mean_ap, np.mean(d_ap), rtol=1e-4)
    np.testing.assert_allclose(metrics.triplets.mean_an, np.mean(d_an), rtol=1e-4)
    assert metrics.triplets.active == np.count_nonzero(hinges)
    assert metrics.gradient_norm > 0


CHANGED = {"zoom": 0.2, "rotate": 0.2, "brightness": 0.2, "contrast": 0.2, "saturation": 0.5, "erase": 0.2}


class EachPixel(nn.Module):
    """A network that depends on every pixel and is compiled quickly."""

    @nn.compact
    def __call__(self, pixels):
        return L2Normalise()(Dense(64)(pixels.reshape(len(pixels), -1)))


def changing_step(devices, chunk=0, rematerialise=False, listed=False, **changes):
    config = config_with(chunk, rematerialise)
    config.data.augment.update(changes)
    return make_train_step(config, EachPixel(), OPTIMIZER, make_mesh(devices), listed)


def metrics_of(step, devices, batch):
    _, metrics = step(create_state(EachPixel(), SIZE, OPTIMIZER, make_mesh(devices), seed=3), batch)
    return jax.device_get((metrics.loss, metrics.gradient_norm, metrics.triplets.mean_an))


@pytest.mark.parametrize(
    ("devices", "chunk", "rematerialise", "listed"),
    [(1, 0, False, False), (8, 0, False, False), (1, 8, False, False), (8, 2, False, False), (1, 8, True, True)],
)
def test_faces_are_changed_before_the_network_on_any_devices(devices, chunk, rematerialise, listed):
    changes, batch = Changes(**CHANGED, mirror=True), some_batch()
    numbers = changes.draw(0, 5, np.arange(BATCH), SIZE)
    changed = np.asarray(jax.jit(changes.apply)(batch.images, numbers))
    plain = changing_step(1, listed=listed)
    want, as_they_are = (metrics_of(plain, 1, batch._replace(images=images)) for images in (changed, batch.images))
    step = changing_step(devices, chunk, rematerialise, listed, **CHANGED)
    np.testing.assert_allclose(metrics_of(step, devices, batch._replace(numbers=numbers)), want, rtol=1e-4)
    assert not np.allclose(as_they_are, want, rtol=1e-3)


def test_changes_add_no_collectives():
    mesh, found = make_mesh(8), []
    for changed in (False, True):
        step = changing_step(8, **CHANGED if changed else {})
        state = abstract_state(EachPixel(), SIZE, OPTIMIZER, mesh)
        program = step.lower(state, abstract_batch(BATCH, SIZE, mesh, changed)).compile(compiler_options=FUSED_AS_USERS)
        found.append(collectives(program.as_text()))
    assert sorted(map(str, found[0])) == sorted(map(str, found[1]))
    assert found[0]


def test_unchanged_faces_go_into_the_network_directly(monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(Changes, "apply", refuse)
    config, mesh = default_config(), make_mesh(1)
    state = abstract_state(EachPixel(), SIZE, OPTIMIZER, mesh)
    config.batch.size, config.model.input_size, config.data.flip = BATCH, SIZE, False
    compile_step(config, EachPixel(), OPTIMIZER, mesh, state)
    config.data.flip = True
    with pytest.raises(AssertionError):
        compile_step(config, EachPixel(), OPTIMIZER, mesh, state)


@pytest.mark.parametrize(("devices", "chunk"), [(1, 0), (8, 2)])
def test_points_of_an_old_network_are_mixed_into_the_loss(devices, chunk):
    config, mesh = config_with(chunk), make_mesh(devices)
    config.compatible_with, config.loss.compatible_weight = "runs/old", 0.5
    old = np.random.default_rng(1).normal(size=(BATCH, 64)).astype(np.float32)
    old /= np.linalg.norm(old, axis=1, keepdims=True)
    batch = some_batch()._replace(old=old)
    state = create_state(EachPixel(), SIZE, OPTIMIZER, mesh, seed=3)
    points = make_embed(EachPixel(), make_mesh(1))(jax.device_get(state.params), batch.images)
    _, metrics = jax.device_get(make_train_step(config, EachPixel(), OPTIMIZER, mesh)(state, batch))
    want = jax.jit(partial(harmonic_loss_and_gradient, weight=0.5))
    loss, stats, _ = want(points, old, batch.labels, jnp.asarray(batch.valid))
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-4)
    assert metrics.triplets.pairs == stats.pairs
    config.batch.size, config.model.input_size, config.model.embedding_size = BATCH, SIZE, 64
    shapes = abstract_batch(BATCH, SIZE, mesh, changed=False, old_size=64)
    assert (shapes.numbers, shapes.old.shape) == (None, (BATCH, 64))


@pytest.mark.parametrize(("devices", "chunk", "listed"), [(1, 0, False), (8, 2, False), (1, 0, True)])
def test_each_member_of_an_ensemble_learns_as_it_would_alone(devices, chunk, listed):
    config, mesh = config_with(chunk), make_mesh(devices)
    ensemble, optimizer = Ensemble(NETWORK, 2), make_optimizer(config)
    state = create_state(ensemble, SIZE, optimizer, mesh, seed=3)
    before = jax.device_get(state.params)
    after, metrics = jax.device_get(make_train_step(config, ensemble, optimizer, mesh, listed)(state, some_batch()))
    losses = []
    for member in ("member0", "member1"):
        alone = create_state(NETWORK, SIZE, optimizer, make_mesh(1), seed=3).with_params(before[member])
        own, own_metrics = jax.device_get(step_on(1, listed=listed)(alone, some_batch()))
        for want, found, was in zip(
            *map(jax.tree.leaves, (own.params, after.params[member], before[member])), strict=True
        ):
            assert np.linalg.norm(found - want) < 1e-4 * np.linalg.norm(want - was)
        losses.append(own_metrics)
    mean_loss, mean_figures = jax.tree.map(lambda a, b: (a + b) / 2, *[(m.loss, m.triplets) for m in losses])
    assert losses[0].loss != pytest.approx(losses[1].loss, rel=1e-3)
    np.testing.assert_allclose(metrics.loss, mean_loss, rtol=1e-5)
    smallest = min(own.triplets.spread for own in losses)
    np.testing.assert_allclose(metrics.triplets, mean_figures._replace(spread=smallest), rtol=1e-4)


class WithBatchStatistics(nn.Module):
    @nn.compact
    def __call__(self, pixels):
        return L2Normalise()(nn.BatchNorm(use_running_average=True)(pixels).reshape(len(pixels), -1))


def test_batch_statistics_are_refused_with_the_reason():
    with pytest.raises(InputError, match=r"statistics of the batch.*batch\.chunk"):
        abstract_state(WithBatchStatistics(), SIZE, OPTIMIZER, make_mesh(1))


@pytest.mark.parametrize(("chunk", "optimizer"), [(0, OPTIMIZER), (2, with_average(OPTIMIZER, 0.9))])
def test_the_step_does_not_depend_on_how_parameters_are_divided(chunk, optimizer):
    mesh = make_mesh(2, fsdp=4)
    state = create_state(NETWORK, SIZE, optimizer, mesh, seed=3)
    state = state.with_params(jax.device_put(jax.device_get(state.params), shardings_of(state.params, mesh)))
    divided = [leaf for leaf in jax.tree.leaves(state) if not leaf.sharding.is_fully_replicated]
    assert len(divided) >= 2  # parameters and what AdaGrad keeps of them
    assert all(leaf.addressable_shards[0].data.size == leaf.size // 4 for leaf in divided)
    for part, said in zip((state.params, state.opt_state), bytes_of_state(NETWORK, SIZE, optimizer, 4), strict=True):
        leaves = [leaf for leaf in jax.tree.leaves(part) if leaf.ndim]
        held = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
        assert said == (sum(leaf.nbytes for leaf in leaves), held)
    before = jax.device_get(state.params)
    step = make_train_step(config_with(chunk), NETWORK, optimizer, mesh)
    after, metrics = step(state, some_batch())
    assert_same_step((after, metrics), rtol=1e-4)
    if optimizer is not OPTIMIZER:  # the first average keeps a tenth
        want = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, before, jax.device_get(after.params))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.result, want)
    shardings = [leaf.sharding for leaf in jax.tree.leaves(abstract_state(NETWORK, SIZE, optimizer, mesh))]
    assert [leaf.sharding.spec for leaf in jax.tree.leaves(after)] == [sharding.spec for sharding in shardings]


def test_masked_rows_do_not_count():
    batch = some_batch()
    images = batch.images.copy()
    images[~batch.valid] = 77
    labels = np.where(batch.valid, batch.labels, 0).astype(np.int32)
    assert_same_step(step_on(1)(fresh_state(1), DeviceBatch(images, labels, batch.valid)), rtol=1e-6)


def test_the_state_counts_steps_and_is_donated():
    state = fresh_state(1)
    after, _ = step_on(1)(state, some_batch())
    assert int(after.step) == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_the_step_is_deterministic():
    again, _ = step_on(1)(fresh_state(1), some_batch())
    for a, b in zip(jax.tree.leaves(jax.device_get(again)), jax.tree.leaves(one_device()[0]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_loss_falls_on_one_batch():
    # Drawn faces with standardised kernels are learnt at once. With noise it would depend on chance and rounding.
    config = default_config()
    config.optimizer.learning_rate = 0.02
    optimizer, mesh = make_optimizer(config), make_mesh(1)
    network = Network(SMALL_ROWS, "small", embedding_size=64, norm="weight")
    step = make_train_step(config, network, optimizer, mesh)
    state = create_state(network, SIZE, optimizer, mesh, seed=3)
    faces = np.stack([render(7, identity, exemplar, SIZE) for identity in range(8) for exemplar in range(4)])
    batch = some_batch()._replace(images=faces)
    losses = []
    for _ in range(30):
        state, metrics = step(state, batch)
        losses.append(float(metrics.loss))
    assert losses[-1] < losses[0] / 4


def test_the_abstract_state_has_the_shapes_of_the_state():
    mesh = make_mesh(1)
    abstract = abstract_state(NETWORK, SIZE, OPTIMIZER, mesh)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), fresh_state(1))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), abstract) == shapes


def test_embeddings_do_not_depend_on_devices():
    images = some_batch().images
    one, eight = (np.asarray(make_embed(NETWORK, make_mesh(n))(fresh_state(n).params, images)) for n in (1, 8))
    np.testing.assert_allclose(one, eight, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1.0, atol=1e-6)


def test_padding_reaches_a_multiple_of_devices_and_chunk():
    assert padded_batch_size(1800, make_mesh(8), 0) == 1800
    assert padded_batch_size(1800, make_mesh(8), 16) == 1920
    assert padded_batch_size(1, make_mesh(8), 0) == 8
