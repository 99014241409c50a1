"""Clusters and their scores, compared with scikit-learn and with plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluating import unit
from facenet_jax.errors import InputError
from facenet_jax.evaluation import clustering
from facenet_jax.evaluation.clustering import score
from facenet_jax.evaluation.protocols.cluster import cluster, format_clustered

LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=25)


def faces(identities=8, per_identity=6, noise=0.4, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(identities), per_identity)
    points = rng.normal(size=(identities, 8))[labels] + noise * rng.normal(size=(len(labels), 8))
    return unit(points), labels


@given(LABELS)
def test_scores_by_their_definitions(labels):
    clusters, identities = zip(*labels, strict=True)
    n = len(labels)
    precision = recall = 0.0
    together = in_cluster = in_identity = 0
    for i in range(n):
        cluster_of = [j for j in range(n) if clusters[j] == clusters[i]]
        identity_of = [j for j in range(n) if identities[j] == identities[i]]
        both = len(set(cluster_of) & set(identity_of))
        precision += both / len(cluster_of) / n
        recall += both / len(identity_of) / n
        together += sum(j > i for j in set(cluster_of) & set(identity_of))
        in_cluster += sum(j > i for j in cluster_of)
        in_identity += sum(j > i for j in identity_of)
    found = score(clusters, identities)
    assert found.bcubed_precision == pytest.approx(precision)
    assert found.bcubed_recall == pytest.approx(recall)
    assert found.bcubed_f == pytest.approx(2 * precision * recall / (precision + recall))
    assert found.pairwise_precision == pytest.approx(together / in_cluster if in_cluster else 1)
    assert found.pairwise_recall == pytest.approx(together / in_identity if in_identity else 1)
    assert (found.clusters, found.identities, found.faces) == (len(set(clusters)), len(set(identities)), n)


@pytest.mark.parametrize("threshold", [0.3, 0.8, 1.5, 3.9])
def test_clusters_are_those_of_scikit_learn(threshold):
    sklearn = pytest.importorskip("sklearn.cluster")
    points, labels = faces(noise=0.7)
    found = cluster(points, labels, threshold)
    wide = points.astype(np.float64)
    distances = np.sum((wide[:, None] - wide) ** 2, axis=-1)
    expected = sklearn.AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=threshold
    ).fit_predict(distances)
    same = lambda one: one[:, None] == one  # noqa: E731
    assert np.array_equal(same(found.labels), same(expected))
    assert (found.chosen_on, len(found.faces)) == (0, len(points))


def test_the_threshold_is_chosen_on_other_people():
    labels = np.repeat(np.arange(12), 6)
    points = np.eye(12)[labels] + 0.05 * np.random.default_rng(0).normal(size=(72, 12))
    points = unit(points)
    found = cluster(points, labels)
    assert found.chosen_on + len(found.faces) == len(points)
    assert (found.chosen_on, found.score.identities) == (36, 6)
    assert found.score.bcubed_f == 1
    assert "B-cubed" in format_clustered(found)


def test_bad_input_is_refused_in_one_sentence(monkeypatch):
    points, labels = faces()
    with pytest.raises(InputError, match="show 1 identities"):
        cluster(points, np.zeros_like(labels))
    monkeypatch.setattr(clustering, "MOST_FACES", 10)
    with pytest.raises(InputError, match="at most 10 faces"):
        cluster(points, labels)
