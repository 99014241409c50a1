"""Compares ways of grouping faces by person, by B-cubed F on the same points.

    python -m benchmarks.grouping --choose celeba_train --measure celeba_holdout

The parameter of each way is the best on half of the identities of the first dataset. It is then judged on the other
half, which has many people with few faces, and on the second dataset, which has few people with many faces. HDBSCAN and
k-means are too slow for the largest albums and are shown for comparison. Writes benchmarks/results/grouping.json and
grouping.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import DBSCAN, HDBSCAN

from benchmarks.audit import Labelled, embedded
from benchmarks.lines import ROOT
from benchmarks.machine import describe_machine, in_words
from facenet_jax.curation.grouping import group, k_means
from facenet_jax.curation.label_errors import pairs_within
from facenet_jax.embedders import open_embedder
from facenet_jax.evaluation.clustering import cut, merges, score
from facenet_jax.runtime.hashing import permutation

# Thresholds tried, squared distances.
_MEAN = np.round(np.arange(0.8, 1.5, 0.025), 3).tolist()
_PAIR = np.round(np.arange(0.5, 1.15, 0.025), 3).tolist()
# Few enough that sets are cut apart, as those of many more faces are.
_FEW = 1000
Points = NDArray[np.float32]


def near_graph(points: Points) -> Callable[[float], Any]:
    """Pairs within a distance as a sparse matrix of distances, for all thresholds up to the largest that is tried."""
    pairs, distances = pairs_within(points, _PAIR[-1])

    def graph(threshold: float) -> Any:
        near = distances <= threshold
        both = np.concatenate([pairs[near], pairs[near, ::-1]])
        return coo_array((np.tile(np.maximum(distances[near], 1e-9), 2), both.T), shape=(len(points),) * 2).tocsr()

    return graph


def lone(found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Makes scikit-learn's noise, -1, groups of one."""
    found = found.astype(np.int64)
    noise = found < 0
    found[noise] = found.max() + 1 + np.arange(noise.sum())
    return found


def average_linkage(points: Points) -> Callable[[float], NDArray[np.int64]]:
    """One tree for all thresholds."""
    tree = merges(points)
    return lambda threshold: cut(tree, threshold, len(points))


def connected_pairs(points: Points) -> Callable[[float], NDArray[np.int64]]:
    """Groups connected by close pairs."""
    graph = near_graph(points)
    return lambda threshold: connected_components(graph(threshold), directed=False)[1]


def dbscan(points: Points) -> Callable[[tuple[float, int]], NDArray[np.int64]]:
    """Groups connected through faces that have several others near them."""
    graph = near_graph(points)
    return lambda p: lone(DBSCAN(eps=p[0], min_samples=p[1], metric="precomputed").fit_predict(graph(p[0])))


WAYS: dict[str, tuple[list[Any], Callable[[Points], Callable[[Any], NDArray[np.int64]]]]] = {
    "average linkage (section 5.8)": (_MEAN, average_linkage),
    f"the same, set by set of {_FEW:,} faces": (_MEAN[::2], lambda points: lambda t: group(points, t, _FEW).people),
    "connected pairs": (_PAIR, connected_pairs),
    "DBSCAN": ([(threshold, least) for threshold in _PAIR[::2] for least in (3, 4, 5)], dbscan),
    "HDBSCAN": (
        [2],
        lambda points: (
            lambda least: lone(HDBSCAN(min_cluster_size=2, min_samples=least, copy=True).fit_predict(points))
        ),
    ),
}


def halves(data: Labelled) -> tuple[Labelled, Labelled]:
    """Two halves of the identities, dealt by a keyed permutation."""
    points, identity = data
    people = int(identity.max()) + 1
    first = np.zeros(people, bool)
    first[permutation(people, 0x67726F75)[: people // 2]] = True  # "grou"
    here = first[identity]
    return (points[here], identity[here]), (points[~here], identity[~here])


def main() -> None:
    """Chooses parameters, judges, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choose", type=Path, required=True, help="a dataset to choose parameters on")
    parser.add_argument("--measure", type=Path, required=True, help="another, to measure on")
    parser.add_argument("--embedder", default="sface", help="(%(default)s)")
    parser.add_argument("--keep", type=Path, default=ROOT / "runs" / "audit", help="where embeddings are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="for grouping.md and .json")
    options = parser.parse_args()

    embedder = open_embedder(options.embedder)
    choose, measure = (embedded(folder, embedder, options.keep) for folder in (options.choose, options.measure))
    tuning, others = halves(choose)
    judged = {f"{options.choose.name}, the other half": others, options.measure.name: measure}
    rows: list[dict[str, Any]] = []

    def judge(way: str, parameter: Any, found: Callable[[Points], NDArray[np.int64]], data: str) -> None:
        points, identity = judged[data]
        began = time.perf_counter()
        result = score(found(points), identity)
        rows.append({"way": way, "parameter": parameter, "data": data, "seconds": time.perf_counter() - began})
        rows[-1] |= vars(result)
        print(" ".join(row(rows[-1])), flush=True)

    people = len(np.unique(measure[1]))
    name = "k-means, the number of people given"
    judge(name, people, lambda points: k_means(points, people).people, options.measure.name)
    for way, (parameters, begin) in WAYS.items():
        best = parameters[0]
        if len(parameters) > 1:
            ready = begin(tuning[0])
            best = max(parameters, key=lambda parameter: score(ready(parameter), tuning[1]).bcubed_f)
        for data in judged:
            judge(way, best, lambda points: begin(points)(best), data)  # noqa: B023
        # After each way, so that an interrupted measurement keeps its figures.
        write(rows, options.out, options.embedder, len(tuning[1]))


def write(rows: list[dict[str, Any]], out: Path, embedder: str, chosen_on: int) -> None:
    """Writes the figures as JSON and as a table in Markdown."""
    machine = describe_machine(("numpy", "scipy", "scikit-learn"))
    result = {"machine": machine, "embedder": embedder, "rows": rows}
    (out / "grouping.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = ["# Grouping faces by person", ""]
    heads = ["way", "parameter", "data", "B-cubed F", "precision", "recall", "groups", "seconds"]
    lines += [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *map(row, rows))]
    lines += [
        "",
        f"Parameters were chosen on {chosen_on:,} faces of other people; embedder {embedder}. B-cubed compares the "
        "groups with the people; the column groups has their numbers.",
    ]
    (out / "grouping.md").write_text("\n".join([*lines, "", in_words(machine), ""]))


def row(one: dict[str, Any]) -> list[str]:
    """One line of the table."""
    rates = [f"{100 * one[key]:.1f} %" for key in ("bcubed_f", "bcubed_precision", "bcubed_recall")]
    groups = f"{one['clusters']:,} of {one['identities']:,} people"
    return [one["way"], str(one["parameter"]), one["data"], *rates, groups, f"{one['seconds']:.0f}"]


if __name__ == "__main__":
    main()
