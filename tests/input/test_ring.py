"""The ring of batches in shared memory."""

import pickle

import pytest

from facenet_jax.input.ring import Ring


def test_a_batch_that_was_overwritten_is_noticed():
    ring = Ring(3, (5, 4, 4, 3), slab_rows=2)
    assert ring.slabs == 3
    elsewhere = pickle.loads(pickle.dumps(ring))
    with pytest.raises(RuntimeError, match="Slab 0 was overwritten"):
        ring.check(0)  # it has no batch yet
    for slab in (3, 4, 5):  # of batch 1
        elsewhere.begin(slab)[...] = slab
        if slab < 5:
            elsewhere.end(slab)
    with pytest.raises(RuntimeError, match="Slab 5 was overwritten"):
        ring.check(1)
    elsewhere.end(5)
    ring.check(1)
    assert ring.batch(1)[:, 0, 0, 0].tolist() == [3, 3, 4, 4, 5]
    assert not ring.batch(2).any()
    elsewhere.begin(13)  # of batch 4, in the place of batch 1
    with pytest.raises(RuntimeError, match="Slab 4 was overwritten"):
        ring.check(1)
