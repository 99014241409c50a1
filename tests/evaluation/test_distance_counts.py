"""Distance counts hold what a sorted list holds, in less memory."""

from bisect import bisect_left, bisect_right

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evaluating import expanded
from facenet_jax.evaluation.distance_counts import DistanceCounter, DistanceCounts

NUMBERS = st.lists(st.integers(0, 12).map(lambda n: n / 4), max_size=40)


@given(st.lists(NUMBERS, max_size=5), st.integers(1, 20))
def test_counts_are_those_of_a_sorted_list(parts, buffer):
    counter = DistanceCounter(buffer)
    for part in parts:
        counter.add(np.array(part, np.float32))
    counted, everything = counter.counts(), sorted(number for part in parts for number in part)
    assert len(counted) == len(everything)
    assert expanded(counted).tolist() == everything
    assert (
        expanded(DistanceCounts.merged([DistanceCounts(part) for part in parts] or [DistanceCounts()])).tolist()
        == everything
    )
    for bound in (-1, 0, 0.3, 1.25, 5):
        assert counted.below(bound) == bisect_left(everything, bound)
        assert counted.at_most(bound) == bisect_right(everything, bound)
    ranks = np.arange(len(everything) + 1)
    assert counted.nth(ranks).tolist() == [*everything, np.inf]
