"""Permutations that are computed place by place."""

import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.runtime.hashing import permuted


@given(st.lists(st.integers(1, 300), min_size=1, max_size=8), st.integers(-(2**63), 2**63 - 1))
def test_permuted_places_are_a_permutation_of_each_length(lengths, word):
    n = np.repeat(lengths, lengths)
    places = np.concatenate([np.arange(length) for length in lengths])
    owners = np.repeat(np.arange(len(lengths)), lengths)
    numbers = permuted(places, n, word, owners)
    for owner, length in enumerate(lengths):
        assert sorted(numbers[owners == owner]) == list(range(length))
        alone = permuted(np.arange(length)[::-1], np.array(length), word, owner)[::-1]
        np.testing.assert_array_equal(numbers[owners == owner], alone)


def test_all_orders_come_equally_often():
    draws = 24_000
    orders = permuted(np.broadcast_to(np.arange(4), (draws, 4)), np.array(4), 5, np.arange(draws)[:, None])
    counts = Counter(map(tuple, orders.tolist()))
    assert set(counts) == set(itertools.permutations(range(4)))
    z = (np.array(list(counts.values())) - draws / 24) / np.sqrt(draws / 24 * (1 - 1 / 24))
    assert np.abs(z).max() < 4.5


def test_numbers_and_their_neighbours_are_uniform():
    # The number at a place, and its distance to the next one, are distributed as in random orders.
    draws = 40_000
    for n in (7, 83, 144, 1009):
        pairs = permuted(np.broadcast_to([n // 3, n // 3 + 1], (draws, 2)), np.array(n), 5, np.arange(draws)[:, None])
        steps = (pairs[:, 1] - pairs[:, 0]) % n
        for values, least in ((pairs[:, 0], 0), (steps, 1)):
            counts = np.bincount(values, minlength=n)[least:]
            expected = draws / (n - least)
            chi2 = ((counts - expected) ** 2 / expected).sum()
            assert abs(chi2 - (len(counts) - 1)) < 4.5 * np.sqrt(2 * len(counts))
            assert np.bincount(values, minlength=n)[:least].sum() == 0


def test_single_places_among_many_are_permuted():
    n = np.array(10**12)
    places = np.array([0, 1, 10**12 - 1, 987654321])
    numbers = permuted(places, n, 3)
    assert len(set(numbers.tolist())) == 4
    assert numbers.min() >= 0
    assert numbers.max() < 10**12
