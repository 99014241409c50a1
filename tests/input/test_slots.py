import pickle

import numpy as np
import pytest

from facenet_jax.input.slots import Slots


def test_a_slot_that_was_overwritten_is_noticed():
    slots = Slots(3, (2, 4, 4, 3))
    elsewhere = pickle.loads(pickle.dumps(slots))
    elsewhere.begin(4)[...] = 7
    out = np.zeros((1, 4, 4, 3), np.uint8)
    with pytest.raises(RuntimeError, match="Slab 4 was overwritten"):
        slots.read(4, out)
    elsewhere.end(4)
    slots.read(4, out)
    assert (out == 7).all()
    elsewhere.begin(7)
    with pytest.raises(RuntimeError, match="Slab 4 was overwritten"):
        slots.read(4, out)
