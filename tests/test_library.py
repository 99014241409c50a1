"""The public functions for a user's own training loop, the examples of their docstrings, and docs/own_loop.md."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import facenet_jax
from facenet_jax.models import networks
from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.triplets import loss as loss_module
from facenet_jax.triplets import plain_triplet_loss, selection

CODE = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs" / "own_loop.md").read_text(), re.DOTALL)
BATCH = 16


def some_batch(seed):
    """Points on the sphere that are near enough for margins to matter, and identities of several sizes."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(BATCH, 6)) + 1.5
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return jnp.asarray(points, jnp.float32), jnp.asarray(rng.integers(0, 5, BATCH), jnp.int32)


def value_and_gradient(function, points, labels):
    return jax.value_and_grad(lambda points: function(points, labels))(points)


@jax.jit
def wanted_of(points, labels):
    return value_and_gradient(plain_triplet_loss, points, labels)


def fast(points, labels, **options):
    return facenet_jax.triplet_loss(points, labels, **options)[0]


def assert_same(found, wanted):
    assert np.all(np.asarray(wanted[0]) > 0.01)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_loss_is_the_plain_reference_alone_and_under_vmap():
    one, other = some_batch(0), some_batch(1)
    assert_same(value_and_gradient(fast, *one), wanted_of(*one))
    both = [jnp.stack(arrays) for arrays in zip(one, other, strict=True)]
    found = jax.jit(jax.vmap(lambda *batch: value_and_gradient(fast, *batch)))(*both)
    assert_same(found, jax.vmap(wanted_of)(*both))


def divided(points, labels):
    """The two halves of the batch on two devices, in a jit without a mesh."""
    rows = jax.sharding.NamedSharding(make_mesh(2), P(("data", "fsdp")))
    return jax.jit(lambda *batch: value_and_gradient(fast, *batch))(*jax.device_put((points, labels), rows))


def on_a_mesh_of_other_axes(points, labels, kind):
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(kind,))
    return jax.jit(lambda *batch: value_and_gradient(lambda *b: fast(*b, mesh=mesh), *batch))(points, labels)


def in_a_shard_map(points, labels, check_vma=True):
    """The gradient of one number that all devices share, and that of each device's own points."""
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    own = P("rows")
    run = jax.shard_map(
        lambda *batch: value_and_gradient(lambda *b: fast(*b, axis_name="rows"), *batch),
        mesh=mesh,
        in_specs=(own, own),
        out_specs=(P(), own),
        check_vma=check_vma,
    )
    return jax.jit(run)(points, labels)


@pytest.mark.parametrize(
    "run",
    [
        divided,
        lambda *batch: on_a_mesh_of_other_axes(*batch, jax.sharding.AxisType.Auto),
        lambda *batch: on_a_mesh_of_other_axes(*batch, jax.sharding.AxisType.Explicit),
        in_a_shard_map,
    ],
    ids=["divided", "automatic mesh", "explicit mesh", "shard_map"],
)
def test_the_loss_is_that_of_the_whole_batch_on_two_devices(run):
    assert_same(run(*some_batch(0)), wanted_of(*some_batch(0)))


def test_parameters_that_all_devices_share_get_the_whole_gradient_in_a_shard_map():
    points, labels = some_batch(0)
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))

    def of_scale(scale, points, labels):
        return jax.value_and_grad(lambda scale: fast(scale * points, labels, axis_name="rows"))(scale)

    specs = {"in_specs": (P(), P("rows"), P("rows")), "out_specs": (P(), P())}
    found = jax.jit(jax.shard_map(of_scale, mesh=mesh, **specs))(jnp.float32(1), points, labels)
    wanted = jax.value_and_grad(lambda scale: plain_triplet_loss(scale * points, labels))(jnp.float32(1))
    assert_same(found, wanted)


def test_inside_a_shard_map_the_axes_must_be_given():
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    with pytest.raises(ValueError, match="inside a shard_map over rows; give as axis_name which"):
        jax.shard_map(fast, mesh=mesh, in_specs=(P("rows"), P("rows")), out_specs=P())(*some_batch(0))


@pytest.mark.parametrize(
    ("points", "labels", "options", "sentence"),
    [
        ((4, 2), np.zeros(5, int), {}, r"embeddings are \[4, 2\], labels \[5\] and valid \[5\]; .* are needed"),
        ((4,), np.zeros(4, int), {}, r"embeddings are \[4\]"),
        ((4, 2), np.zeros(4, int), {"valid": np.ones(3, bool)}, r"valid \[3\]"),
        ((4, 2), np.zeros(4), {}, "labels are float32 and valid is bool; integers and bool are needed"),
        ((4, 2), np.zeros(4, int), {"valid": np.ones(4)}, "valid is float32"),
        ((4, 2), np.zeros(4, int), {"mesh": make_mesh(8)}, "4 rows cannot be divided over 8 devices"),
        ((8, 2), np.zeros(8, int), {"mesh": make_mesh(8), "axis_name": "data"}, "mesh and axis_name are both given"),
    ],
)
def test_contradictory_arguments_are_refused_in_one_sentence(points, labels, options, sentence):
    for function in (facenet_jax.triplet_loss, facenet_jax.select_triplets):
        with pytest.raises(ValueError, match=sentence) as raised:
            function(jnp.zeros(points), labels, **options)
        assert len(str(raised.value).splitlines()) == 1


def test_rows_that_are_not_valid_take_no_part():
    points, labels = some_batch(0)
    more = jnp.concatenate([points, jnp.full((3, 6), jnp.nan)]), jnp.concatenate([labels, labels[:3]])
    loss, gradient = value_and_gradient(lambda *batch: fast(*batch, valid=jnp.arange(BATCH + 3) < BATCH), *more)
    assert_same((loss, gradient[:BATCH]), wanted_of(points, labels))
    assert not np.any(gradient[BATCH:])


@pytest.mark.parametrize("module", [loss_module, selection, networks], ids=lambda module: module.__name__)
def test_the_examples_of_the_docstrings_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("code", CODE, ids=["optax", "nnx"])
def test_the_loops_of_the_document_learn(code, capsys):
    exec(code, {"__name__": "example"})
    losses = [float(line.split()[3].rstrip(",")) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 10
    assert losses[-1] < losses[0]


def test_the_step_of_the_readme_learns():
    text = (Path(__file__).parents[1] / "README.md").read_text()
    code = next(code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def step" in code)
    found: dict = {}
    exec(code, found)
    labels = jnp.repeat(jnp.arange(4), 4)
    people = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3))
    noise = np.random.default_rng(1).normal(0, 1, (16, 32, 32, 3))
    pixels = jnp.asarray(np.repeat(people, 4, axis=0) + noise, jnp.float32).clip(-1, 1)
    params = jax.jit(found["network"].init)(jax.random.key(0), pixels)
    state = found["optimizer"].init(params)
    step, losses = jax.jit(found["step"]), []
    for _ in range(5):
        params, state, value = step(params, state, pixels, labels)
        losses.append(float(value))
    assert losses[-1] < losses[0]


def test_jax_is_imported_only_at_the_first_use():
    code = (
        "import sys, facenet_jax; print('jax' in sys.modules, callable(facenet_jax.triplet_loss), 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]
    assert all(getattr(facenet_jax, name) is not None for name in facenet_jax.__all__)


def test_onnx_runtime_leaves_nothing_in_the_home_folder_and_reports_nothing(tmp_path):
    pytest.importorskip("onnxruntime")
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    homes = {key: str(tmp_path) for key in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    program = "import facenet_jax, onnxruntime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=environment | homes, capture_output=True, text=True, check=True)
    assert ended.stdout == "1\n"
    assert not list(tmp_path.rglob("*"))
    asked = subprocess.run(
        command, env=environment | homes | {"ORT_DISABLE_TELEMETRY": "0"}, capture_output=True, text=True, check=True
    )
    assert asked.stdout == "0\n"
