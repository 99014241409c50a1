"""Several sources as one."""

import pickle

import numpy as np

from facenet_jax.datasets.drawn import DrawnFaces
from facenet_jax.datasets.mixture import MixedSource


def test_identities_and_faces_follow_in_the_order_of_the_sources():
    sources = [DrawnFaces(0, 3, 2), DrawnFaces(1, 4, 5, first=7), DrawnFaces(2, 1, 1)]
    mixed = MixedSource(sources)
    assert mixed.borders == [0, 3, 7, 8]
    assert mixed.index.counts.tolist() == [2, 2, 2, 5, 5, 5, 5, 1]
    assert list(mixed.index.names) == [name for source in sources for name in source.index.names]
    assert mixed.index.names[-1] == "drawn-0000000"
    assert list(mixed.places()) == [place for source in sources for place in source.places()]
    assert mixed.index.names[2:5] == list(mixed.index.names)[2:5]
    again = pickle.loads(pickle.dumps(mixed))
    places = [(source, record) for source in sources for record in range(source.index.records)]
    for record, (source, own) in enumerate(places):
        face = source.load(own, (20, 20))
        assert mixed.describe(record) == source.describe(own)
        np.testing.assert_array_equal(mixed.load(record, (20, 20)), face)
        np.testing.assert_array_equal(again.load(record, (20, 20)), face)


def test_the_digest_depends_on_the_sources_and_their_order():
    one, other = DrawnFaces(0, 3, 2), DrawnFaces(1, 4, 5)
    digests = {MixedSource(sources).digest for sources in ([one, other], [other, one], [one], [one, one])}
    assert len(digests) == 4
    assert MixedSource([DrawnFaces(0, 3, 2), other]).digest in digests
