"""How a mesh is made, and which axis of an array is divided."""

import math

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.errors import InputError
from facenet_jax.runtime.mesh import check_shares, divided_axis, make_mesh


@pytest.mark.parametrize(
    ("data", "fsdp", "shape"), [(0, 1, (8, 1)), (0, 4, (2, 4)), (2, 2, (2, 2)), (0, 3, (2, 3)), (1, 8, (1, 8))]
)
def test_all_devices_take_part_unless_told_otherwise(data, fsdp, shape):
    assert make_mesh(data, fsdp).devices.shape == shape


@pytest.mark.parametrize(("data", "fsdp"), [(9, 1), (0, 9), (3, 3), (-1, 1)])
def test_more_devices_than_there_are_is_one_sentence(data, fsdp):
    with pytest.raises(InputError, match=r"there are 8 cpu devices"):
        make_mesh(data, fsdp)


@pytest.mark.parametrize(
    ("processes", "process_count"), [([0], 2), ([0, 0], 2), ([0, 0, 1], 2), ([0, 0, 1, 1], 3), ([0, 0, 2, 2], 3)]
)
def test_processes_with_other_numbers_of_devices_are_one_sentence(processes, process_count):
    with pytest.raises(
        InputError, match=r"config\.mesh\.data=1 with config\.mesh\.fsdp=3 .* from [01] to [12] of each"
    ):
        check_shares(processes, process_count, 1, 3)


@pytest.mark.parametrize(("processes", "process_count"), [([0], 1), ([0, 0, 0], 1), ([0, 1], 2), ([0, 0, 1, 1], 2)])
def test_processes_with_the_same_numbers_of_devices_are_a_mesh(processes, process_count):
    check_shares(processes, process_count, 0, 1)


def test_a_mesh_is_held_against_the_processes_that_there_are(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)  # the second of them has none of these devices
    with pytest.raises(InputError, match=r"from 0 to 8 of each of the 2 processes"):
        make_mesh()


@given(shape=st.lists(st.integers(1, 512), min_size=1, max_size=4), fsdp=st.sampled_from([1, 2, 4, 8]))
def test_large_arrays_are_divided_along_their_longest_axis_that_divides(shape, fsdp):
    axis = divided_axis(tuple(shape), fsdp)
    dividing = [n for n in shape if n % fsdp == 0]
    if fsdp == 1 or math.prod(shape) < 2**16 or not dividing:
        assert axis is None
    else:
        assert axis is not None
        assert shape[axis] == max(dividing)
