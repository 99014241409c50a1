"""A checksum of a tree of arrays that does not depend on how they are sharded."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from numpy.typing import NDArray

from facenet_jax.runtime.hosts import several

_SEEDS = (0x9E3779B1, 0x85EBCA77)
_AT_ONCE = 2**18


def fingerprint(tree: Any) -> str:
    """A fingerprint of a tree of arrays, by their paths, shapes, types and every value.

    Sums of mixed bits wrap around at 2^32, so that their order does not matter, nor which device or process has which
    part. It shows damage; it is not a signature. In a job of several processes all of them call it,
    unless each has all of it.

    Args:
      tree: of jax.Array with elements of 1, 2 or 4 bytes.

    Returns:
      32 hexadecimal digits.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    sums = np.zeros((len(leaves), len(_SEEDS)), np.uint32)
    for row, (_, leaf) in enumerate(leaves):
        for shard in leaf.addressable_shards:
            if shard.replica_id == 0:
                first = tuple(part.start or 0 for part in shard.index)
                sums[row] += _sums(np.asarray(shard.data), first, leaf.shape)
    # What a process has for itself, it has whole.
    own = np.array([leaf.is_fully_addressable for _, leaf in leaves], bool)[:, None]
    if several() and not own.all():
        of_all = multihost_utils.process_allgather(np.where(own, np.uint32(0), sums))
        sums = np.where(own, sums, np.sum(of_all, axis=0, dtype=np.uint32))
    found = hashlib.blake2b(digest_size=16)
    for (path, leaf), of_leaf in zip(leaves, sums.tolist(), strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found.update(f"{name} {leaf.shape} {leaf.dtype} {of_leaf}\n".encode())
    return found.hexdigest()


def _sums(part: NDArray[Any], first: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.uint32]:
    """The sums, over a part of an array of some shape that begins at `first`, of bits mixed with their places."""
    strides = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
    bits = np.ascontiguousarray(part).reshape(-1).view(f"u{part.dtype.itemsize}")
    total = np.zeros(len(_SEEDS), np.uint32)
    for start in range(0, len(bits), _AT_ONCE):
        here = bits[start : start + _AT_ONCE].astype(np.uint32)
        if part.shape == shape:
            place = np.arange(start, start + len(here), dtype=np.uint32)
        else:
            within = np.unravel_index(np.arange(start, start + len(here)), part.shape)
            global_place = sum((one + begin) * step for one, begin, step in zip(within, first, strides, strict=True))
            place = np.asarray(global_place).astype(np.uint32)
        mixed = [_mixed(here + _mixed(place ^ np.uint32(seed))) for seed in _SEEDS]
        total += np.array([np.sum(one, dtype=np.uint32) for one in mixed])
    return total


def _mixed(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A permutation of the 32-bit numbers in which every bit reaches every other (the end of MurmurHash3)."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))
