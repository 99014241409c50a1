"""The order in which identities and their faces are visited."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.input.plan import BatchPlan
from facenet_jax.input.visits import _FACES, Visits
from facenet_jax.runtime import hashing


def make_index(counts) -> IdentityIndex:
    return IdentityIndex(
        [str(i) for i in range(len(counts))], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    )


def reference_windows(n: int, c: int, orders: list[list[int]]) -> list[list[int]]:
    """The construction that the module describes, for the whole sequence from front to back."""
    sequence: list[int] = []
    previous: list[int] = []
    for k, order in enumerate(orders):
        order = list(order)
        r = k * n % c
        tail, head = previous[n - r :], (c - r if r else 0)
        spare = [place for place in range(head, n) if order[place] not in tail]
        for place in range(head):
            if order[place] in tail:
                other = spare.pop(0)
                order[place], order[other] = order[other], order[place]
        sequence += order
        previous = order
    return [sequence[v * c : v * c + c] for v in range(len(sequence) // c)]


def keyed_order(n: int, long: bool, *words: int) -> list[int]:
    order = hashing.permuted(np.arange(n), np.array(n), *words) if long else hashing.permutation(n, *words)
    return order.tolist()


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(0, 40), st.integers(0, 5))
def test_every_cycle_of_an_identity_has_each_face_once(quota, more, seed):
    # Two identities, so that every epoch visits all n faces of the first one, in one batch.
    n = quota + more
    c = quota
    plan = BatchPlan(make_index([n, n]), size=max(2 * c, 4), faces_per_identity=c, random_negatives=0, seed=seed)
    cycles = 2 * c + 1
    visits = [plan.batch(step) for step in range(cycles * n // c)]
    for identity in (0, 1):
        windows = [batch.records[batch.labels == identity] - identity * n for batch in visits]
        assert all(len(set(window)) == c for window in windows)
        sequence = np.concatenate(windows)
        for k in range(len(sequence) // n):
            assert sorted(sequence[k * n : (k + 1) * n]) == list(range(n))
        orders = [keyed_order(n, n >= 2 * c, seed, _FACES, identity, k) for k in range(cycles)]
        expected = reference_windows(n, c, orders)
        assert [window.tolist() for window in windows] == expected[: len(windows)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(0, 3), st.data())
def test_numbered_faces_follow_identity_by_identity(counts, seed, data):
    index = make_index(counts)
    chosen = np.array(sorted(data.draw(st.sets(st.sampled_from(range(len(counts))), min_size=1))))
    visits = Visits(index, chosen, faces_per_identity=2, seed=seed)
    used = [counts[i] for i in chosen]
    assert visits.faces == sum(used)
    assert visits.given == sum(min(2, n) for n in used if n >= 2)
    records, labels = visits.numbered(np.arange(visits.faces))
    np.testing.assert_array_equal(labels, np.repeat(chosen, used))
    np.testing.assert_array_equal(labels, index.identity_of(records))
    np.testing.assert_array_equal(records, index.records_of(chosen))


def test_sets_with_different_numbers_are_visited_in_different_orders():
    index = make_index([3] * 50)
    orders = [
        Visits(index, np.arange(50), faces_per_identity=3, number=number).between(0, 0, 150).labels[::3].tolist()
        for number in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == list(range(50))
