"""How a mesh is made, and which axis of an array is divided."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.errors import InputError
from facenet_jax.mesh import divided_axis, make_mesh


@pytest.mark.parametrize(
    ("data", "fsdp", "shape"), [(0, 1, (8, 1)), (0, 4, (2, 4)), (2, 2, (2, 2)), (0, 3, (2, 3)), (1, 8, (1, 8))]
)
def test_all_devices_take_part_unless_told_otherwise(data, fsdp, shape):
    assert make_mesh(data, fsdp).devices.shape == shape


@pytest.mark.parametrize(("data", "fsdp"), [(9, 1), (0, 9), (3, 3), (-1, 1)])
def test_more_devices_than_there_are_is_one_sentence(data, fsdp):
    with pytest.raises(InputError, match=r"there are 8 cpu devices"):
        make_mesh(data, fsdp)


@given(shape=st.lists(st.integers(1, 512), min_size=1, max_size=4), fsdp=st.sampled_from([1, 2, 4, 8]))
def test_large_arrays_are_divided_along_their_longest_axis_that_divides(shape, fsdp):
    axis = divided_axis(tuple(shape), fsdp)
    dividing = [n for n in shape if n % fsdp == 0]
    if fsdp == 1 or math.prod(shape) < 2**16 or not dividing:
        assert axis is None
    else:
        assert axis is not None
        assert shape[axis] == max(dividing)
