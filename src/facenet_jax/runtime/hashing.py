"""Keyed pseudo-random numbers that are pure functions of integers.

Every random decision about data (which identity comes next, which face, which negative, whether to flip) is
a hash of (seed, purpose, step, record, …), so that any host can work out any batch without having seen the ones before.
The hash is spelled out here rather than taken from NumPy's generators, whose streams may change between versions:
a run that is resumed after an upgrade must meet the same batches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

_BLOCK = 2**18  # numbers hashed at once: few enough for the cache
_ROUNDS = 8


def hash64(*words: ArrayLike) -> NDArray[np.uint64]:
    """Hashes integers to 64 well-mixed bits, with broadcasting.

    Args:
      *words: integers or integer arrays that broadcast against each other; their order matters.

    Returns:
      uint64 array of the broadcast shape (0-d for scalars). The finaliser is SplitMix64's (Steele, Lea, Flood 2014).
    """
    with np.errstate(over="ignore"):
        state = np.zeros((), np.uint64)
        for word in words:
            bits = np.asarray(word)
            if bits.dtype != np.uint64:
                bits = bits.astype(np.int64).view(np.uint64)
            state = (state ^ bits) + _GOLDEN
            state = (state ^ (state >> np.uint64(30))) * _MIX_1
            state = (state ^ (state >> np.uint64(27))) * _MIX_2
            state = state ^ (state >> np.uint64(31))
        return np.asarray(state, np.uint64)


def uniform(*words: ArrayLike) -> NDArray[np.float64]:
    """A number in [0, 1) for every combination of words; 53 bits of the hash."""
    return (hash64(*words) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(n: int | NDArray[np.int64], *words: ArrayLike) -> NDArray[np.int64]:
    """An integer in [0, n) for every combination of words; uneven by no more than n / 2**53."""
    return (uniform(*words) * n).astype(np.int64)


def permutation(n: int, *words: int) -> NDArray[np.int64]:
    """A permutation of range(n), a pure function of (n, words): range(n) in the order of a hash of (words, number).

    The numbers stand in the low bits of what is sorted, instead of those of the hash, so that millions are sorted in
    place: 8 bytes each, and no order is left to the sorting algorithm.
    """
    low = np.uint64(max(1, n - 1).bit_length())
    keys = np.empty(n, np.uint64)
    for first in range(0, n, _BLOCK):
        block = np.arange(first, min(n, first + _BLOCK), dtype=np.uint64)
        keys[first : first + _BLOCK] = hash64(*words, block) >> low << low | block
    keys.sort()
    keys &= (np.uint64(1) << low) - np.uint64(1)
    return keys.view(np.int64)


def permuted(places: NDArray[np.int64], n: NDArray[np.int64], *words: ArrayLike) -> NDArray[np.int64]:
    """The numbers at some places of permutations of range(n), each in the same time, however large n is.

    The permutation is another than `permutation`'s: a Feistel network on a rectangle a x b of at least n places, whose
    two coordinates are shifted in turn by a hash of the other one, walked along until it meets a number below n (Black
    and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). Fewer than a places are too many: few walks are long.

    Args:
      places: int64, in [0, n).
      n: int64 that broadcasts to the places' shape, at least 1.
      *words: integers or arrays of integers that broadcast to it: each combination has a permutation of its own.

    Returns:
      int64 of the places' shape.
    """
    shape = places.shape
    keys = np.broadcast_to(hash64(*words), shape).ravel()
    n = np.broadcast_to(n, shape).ravel()
    a = np.ceil(np.sqrt(n)).astype(np.uint64)
    b = -(-n // a.astype(np.int64)).astype(np.uint64)
    numbers = places.ravel().astype(np.uint64)
    left = np.arange(len(numbers))
    while len(left):
        rows, columns, key = a[left], b[left], keys[left]
        row, column = np.divmod(numbers[left], columns)
        for turn in range(0, _ROUNDS, 2):
            row = (row + hash64(key + np.uint64(turn), column) % rows) % rows
            column = (column + hash64(key + np.uint64(turn + 1), row) % columns) % columns
        numbers[left] = row * columns + column
        left = left[numbers[left] >= n[left].astype(np.uint64)]
    return numbers.astype(np.int64).reshape(shape)
