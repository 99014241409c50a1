"""The estimates that are printed before the first step, and steps that do not fit."""

import pytest

from facenet_jax.errors import InputError
from facenet_jax.training.preflight import Estimate, check_fits

GIB = 2**30


def needing(needed, available, parameters=10**6):
    return Estimate(parameters, 10**9, int(needed), None if available is None else int(available), 1.0)


def test_a_step_that_fits_or_with_unknown_memory_passes():
    check_fits(needing(8 * GIB, 8 * GIB), 1800, None)
    check_fits(needing(8 * GIB, None), 1800, None)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (1800, "set --config.batch.chunk=225, the same gradient in 23.5 GiB"),
        (225, "set --config.batch.chunk=113, the same gradient in 12.3 GiB"),
        (1, "lower config.batch.size or config.model.input_size"),
    ],
)
def test_a_step_that_does_not_fit_is_refused_with_a_chunk_that_does(rows, words):
    with pytest.raises(InputError, match=r"a step needs 100 GiB on each device, and 24\.0 GiB are free") as error:
        check_fits(needing(100 * GIB, 24 * GIB), rows, lambda chunk: GIB + chunk * GIB // 10)
    assert words in str(error.value)


def test_without_a_chunk_that_fits_none_is_suggested():
    with pytest.raises(InputError, match="smaller network or a larger device"):
        check_fits(needing(100 * GIB, 24 * GIB), 1800, lambda chunk: 25 * GIB)


def test_the_estimate_is_printed():
    text = needing(3 * GIB, 24 * GIB, parameters=4_293_320).describe(steps=100)
    assert "4,293,320" in text
    assert "3.0 GiB of 24.0 GiB" in text
    assert "1 min 40 s for 100 steps" in text
