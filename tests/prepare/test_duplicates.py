"""Finding files with equal content."""

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.prepare.duplicates import find_copies


@given(st.lists(st.lists(st.integers(0, 6), max_size=6), max_size=8), st.sampled_from([3, 1000]))
def test_copies_are_those_that_a_loop_finds(identities, at_once):
    values = [value for faces in identities for value in faces]
    offsets = np.concatenate([[0], np.cumsum([len(faces) for faces in identities])]).astype(np.int64)
    contents = np.zeros((len(values), 16), np.uint8)
    contents[:, 0] = np.array(values) * 40
    contents[:, 9] = 7
    found = find_copies(contents, offsets, at_once)

    expected = []
    seen = defaultdict(dict)
    for identity, faces in enumerate(identities):
        for place, value in enumerate(faces):
            record = int(offsets[identity]) + place
            if seen[value]:
                within = identity in seen[value]
                original = seen[value][identity] if within else min(seen[value].values())
                expected.append((record, original, within))
            seen[value].setdefault(identity, record)
    assert list(zip(*(part.tolist() for part in found), strict=True)) == expected
