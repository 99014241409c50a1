"""Random numbers that are pure functions of indices, 32 bits, on the device; `runtime.hashing` has the host's 64 bits.

A draw depends on what it is for (seed, step, anchor, positive) and on nothing else: neither on the order in which pairs
are visited nor on the device that does it. The hash is spelled out so that a resumed run survives upgrades.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def as_word(number: int | jax.Array) -> jax.Array:
    """An integer of any size, or an integer array, modulo 2^32: uint32."""
    return jnp.uint32(number & 0xFFFFFFFF) if isinstance(number, int) else number.astype(jnp.uint32)


def hash32(*words: int | jax.Array) -> jax.Array:
    """Hashes integers to 32 well-mixed bits, with broadcasting.

    Args:
      *words: integers or integer arrays that broadcast against each other, each taken modulo 2^32; order matters.

    Returns:
      uint32, of the broadcast shape. The finaliser is lowbias32 (Wellons, Hash Prospector, 2018).
    """
    state = jnp.zeros((), jnp.uint32)
    for word in words:
        state = (state ^ as_word(word)) + jnp.uint32(0x9E3779B9)
        state = (state ^ (state >> 16)) * jnp.uint32(0x7FEB352D)
        state = (state ^ (state >> 15)) * jnp.uint32(0x846CA68B)
        state = state ^ (state >> 16)
    return state
