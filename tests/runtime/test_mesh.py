"""Making a mesh, and choosing the axis along which an array is divided."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.errors import InputError
from facenet_jax.planning.hlo import collectives
from facenet_jax.runtime.mesh import check_shares, divided_axis, make_mesh, mesh_over, over_batch, over_parameters


@pytest.mark.parametrize(
    ("data", "fsdp", "shape"), [(0, 1, (8, 1)), (0, 4, (2, 4)), (2, 2, (2, 2)), (0, 3, (2, 3)), (1, 8, (1, 8))]
)
def test_all_devices_are_used_by_default(data, fsdp, shape):
    assert make_mesh(data, fsdp).devices.shape == shape


@pytest.mark.parametrize(("data", "fsdp"), [(9, 1), (0, 9), (3, 3), (-1, 1)])
def test_too_many_devices_are_refused_in_one_sentence(data, fsdp):
    with pytest.raises(InputError, match=r"there are 8 cpu devices"):
        make_mesh(data, fsdp)


@pytest.mark.parametrize(
    ("processes", "process_count"), [([0], 2), ([0, 0], 2), ([0, 0, 1], 2), ([0, 0, 1, 1], 3), ([0, 0, 2, 2], 3)]
)
def test_processes_with_different_numbers_of_devices_are_refused(processes, process_count):
    with pytest.raises(
        InputError, match=r"config\.mesh\.data=1 with config\.mesh\.fsdp=3 .* from [01] to [12] of each"
    ):
        check_shares(processes, process_count, 1, 3)


@pytest.mark.parametrize(("processes", "process_count"), [([0], 1), ([0, 0, 0], 1), ([0, 1], 2), ([0, 0, 1, 1], 2)])
def test_processes_with_equal_numbers_of_devices_are_accepted(processes, process_count):
    check_shares(processes, process_count, 0, 1)


def test_a_mesh_must_include_devices_of_every_process(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)  # the second has none of these devices
    with pytest.raises(InputError, match=r"from 0 to 8 of each of the 2 processes"):
        make_mesh()


@pytest.fixture
def sliced(monkeypatch):
    """A function that assigns the eight simulated devices to slices."""

    def say(*slices):
        answer = property(lambda device: slices[device.id])
        monkeypatch.setattr(type(jax.devices()[0]), "slice_index", answer, raising=False)

    return say


@pytest.mark.parametrize(
    ("slices", "fsdp", "rows"),
    [
        # fsdp stays within a slice, wherever its devices stand in the list of all.
        ((0, 0, 0, 0, 1, 1, 1, 1), 2, [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ((0, 1, 0, 1, 0, 1, 0, 1), 4, [[0, 2, 4, 6], [1, 3, 5, 7]]),
        ((3, 3, 2, 2, 1, 1, 0, 0), 2, [[6, 7], [4, 5], [2, 3], [0, 1]]),
        ((0, 1, 0, 1, 0, 1, 0, 1), 1, [[0], [2], [4], [6], [1], [3], [5], [7]]),
        # If fsdp is larger than a slice, it takes whole slices.
        ((0, 1, 0, 1, 2, 3, 2, 3), 4, [[0, 2, 1, 3], [4, 6, 5, 7]]),
        ((0, 1, 0, 1, 0, 1, 0, 1), 8, [[0, 2, 4, 6, 1, 3, 5, 7]]),
    ],
)
def test_parameters_are_divided_within_a_slice_and_the_batch_over_them(sliced, slices, fsdp, rows):
    sliced(*slices)
    mesh = make_mesh(0, fsdp)
    assert [[device.id for device in row] for row in mesh.devices] == rows


@dataclass(frozen=True)
class Gpu:
    """The attributes that JAX gives a GPU."""

    id: int
    slice_index: int
    platform: str = "gpu"
    device_kind: str = ""


@given(slices=st.integers(1, 6), own=st.integers(1, 12), data=st.data())
def test_any_slices_of_one_size_make_a_mesh(slices, own, data):
    fsdp = data.draw(st.sampled_from([n for n in range(1, slices * own + 1) if slices * own % n == 0]))
    order = data.draw(st.permutations(range(slices * own)))
    devices = [Gpu(i, i % slices) for i in order]
    found = mesh_over(devices, fsdp).devices
    assert found.shape == (slices * own // fsdp, fsdp)
    assert sorted(device.id for device in found.flat) == list(range(slices * own))
    if own % fsdp == 0:
        assert all(len({device.slice_index for device in row}) == 1 for row in found)
    if fsdp % own == 0:
        assert all(len({device.slice_index for device in row}) == fsdp // own for row in found)


def test_slices_of_different_sizes_are_refused(sliced):
    sliced(0, 0, 0, 0, 0, 1, 1, 1)
    with pytest.raises(InputError, match="have 3 to 5 devices each"):
        make_mesh()


def test_nothing_is_gathered_across_slices_and_the_gradient_is_the_same(sliced):
    sliced(0, 1, 0, 1, 0, 1, 0, 1)
    mesh = make_mesh(0, 4)
    matrix, batch = np.arange(512.0 * 512, dtype=np.float32).reshape(512, 512) / 2**18, np.eye(8, 512, dtype=np.float32)

    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ w))

    there = jax.device_put(matrix, over_parameters(matrix.shape, mesh)), jax.device_put(batch, over_batch(mesh))
    step = jax.jit(jax.grad(loss), out_shardings=there[0].sharding).lower(*there).compile()
    np.testing.assert_allclose(step(*there), jax.grad(loss)(matrix, batch), rtol=1e-5)
    # Arrays are gathered only by the four devices of a slice.
    assert {c.devices for c in collectives(step.as_text()) if c.kind == "all-gather"} == {4}


@given(shape=st.lists(st.integers(1, 512), min_size=1, max_size=4), fsdp=st.sampled_from([1, 2, 4, 8]))
def test_large_arrays_are_divided_along_their_longest_axis_that_divides(shape, fsdp):
    axis = divided_axis(tuple(shape), fsdp)
    dividing = [n for n in shape if n % fsdp == 0]
    if fsdp == 1 or math.prod(shape) < 2**16 or not dividing:
        assert axis is None
    else:
        assert axis is not None
        assert shape[axis] == max(dividing)
