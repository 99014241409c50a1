"""Fingerprints of arrays are the same on any devices, and differ after any change."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from facenet_jax.runtime import checksum as module
from facenet_jax.runtime.checksum import fingerprint
from facenet_jax.runtime.mesh import make_mesh


def tree(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "kernel": jnp.asarray(rng.standard_normal((8, 6, 4)), jnp.float32),
        "half": jnp.asarray(rng.standard_normal(16), jnp.bfloat16),
        "count": jnp.asarray(7, jnp.int32),
    }


def test_the_fingerprint_does_not_depend_on_how_arrays_are_divided(monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 5)
    mesh, whole = make_mesh(2, fsdp=4), fingerprint(tree())
    for spec in (P(), P("data"), P(("data", "fsdp")), P("data", None, "fsdp"), P(None, "data", "fsdp")):
        divided = tree() | {"kernel": jax.device_put(tree()["kernel"], NamedSharding(mesh, spec))}
        assert fingerprint(divided) == whole


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 8 * 6 * 4 * 4 - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_changes_the_fingerprint(place, bit):
    data = bytearray(np.asarray(tree()["kernel"]).tobytes())
    data[place] ^= 1 << bit
    changed = jnp.asarray(np.frombuffer(bytes(data), np.float32).reshape(8, 6, 4))
    assert fingerprint(tree() | {"kernel": changed}) != fingerprint(tree())


def test_order_names_shapes_and_types_change_the_fingerprint():
    kernel = tree()["kernel"]
    others = [kernel[::-1], kernel.reshape(8, 4, 6), kernel.swapaxes(0, 1), kernel.view(jnp.int32)]
    found = {fingerprint({"kernel": one}) for one in [kernel, *others]} | {fingerprint({"bias": kernel})}
    assert len(found) == 6
