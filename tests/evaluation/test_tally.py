"""A tally is a sorted list that takes less room."""

from bisect import bisect_left, bisect_right

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.evaluation.tally import Tallier, Tally

NUMBERS = st.lists(st.integers(0, 12).map(lambda n: n / 4), max_size=40)


@given(st.lists(NUMBERS, max_size=5), st.integers(1, 20))
def test_a_tally_counts_as_a_sorted_list_does(parts, buffer):
    tallier = Tallier(buffer)
    for part in parts:
        tallier.add(np.array(part, np.float32))
    tally, everything = tallier.tally(), sorted(number for part in parts for number in part)
    assert len(tally) == len(everything)
    assert tally.expand().tolist() == everything
    assert Tally.merged([Tally(part) for part in parts] or [Tally()]).expand().tolist() == everything
    for bound in (-1, 0, 0.3, 1.25, 5):
        assert tally.below(bound) == bisect_left(everything, bound)
        assert tally.at_most(bound) == bisect_right(everything, bound)
    ranks = np.arange(len(everything) + 1)
    assert tally.nth(ranks).tolist() == [*everything, np.inf]
