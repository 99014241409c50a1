"""Measures how well an audit finds wrong labels: 5 % of the faces are put under other names, and searched for.

    python -m benchmarks.audit --choose celeba_train --measure celeba_holdout

The suspicion from which a face is left out is chosen on people with many faces of the first dataset, by the best F over
the seeds. Findings are counted on the second dataset, on all of the first, and on synthetic points. Only labels change,
so faces are embedded once. A face whose label was wrong before counts as falsely suspected. Writes
benchmarks/results/audit.json and audit.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lines import ROOT
from benchmarks.machine import describe_machine, in_words
from facenet_jax.curation.audit import EXCLUDE_FROM
from facenet_jax.curation.label_errors import merged_identities, nearness, split_identities, wrong_labels
from facenet_jax.datasets.open import open_dataset
from facenet_jax.embedders import open_embedder
from facenet_jax.embedders.engine import embed_images
from facenet_jax.embedders.labelled_images import stored_images
from facenet_jax.images.cut import FaceCutter
from facenet_jax.runtime.progress import Progress

SHARE = 0.05
# The suspicion is chosen on identities of the first dataset that are as large as those of the second.
_LEAST_FACES = 10
_GRID = np.round(np.arange(0, 2.01, 0.05), 2)
Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]
# (faces found, how many of them were planted, how many were planted in all)
Found = tuple[int, int, int]


def embedded(folder: Path, embedder: Any, keep: Path) -> Labelled:
    """Points and identities of a dataset."""
    source = open_dataset(folder, singles=True)
    images = stored_images(source, tuple(source.places()))
    found = embed_images(embedder, images, FaceCutter("none"), keep, Progress())
    return found.points, source.index.identity_of(found.photo)


def made_up(seed: int = 0) -> Labelled:
    """500 synthetic identities of 2 to 20 points, 128-D, with the distances that SFace gives CelebA's."""
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(500), rng.integers(2, 21, 500))
    points = rng.normal(size=(500, 128))[identity] + 0.75 * rng.normal(size=(len(identity), 128))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), identity


def plant(identity: NDArray[np.int64], seed: int) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.bool_]]:
    """Gives a share of the faces another identity's name: (order, identities in it, which are wrong)."""
    rng = np.random.default_rng(seed)
    people = int(identity.max()) + 1
    wrong = rng.choice(len(identity), round(SHARE * len(identity)), replace=False)
    other = rng.integers(0, people - 1, len(wrong))
    labels = identity.copy()
    labels[wrong] = other + (other >= identity[wrong])
    planted = labels != identity
    order = np.argsort(labels, kind="stable")
    return order, labels[order], planted[order]


def wrong_found(data: Labelled, seed: int, grid: NDArray[np.float64]) -> list[Found]:
    """The labels found with at least each suspicion of the grid."""
    order, labels, planted = plant(data[1], seed)
    near = nearness(data[0][order], labels)
    listed = wrong_labels(near, labels)
    suspicion = near.suspicion[listed]
    return [
        (int(np.sum(suspicion >= least)), int(planted[listed[suspicion >= least]].sum()), int(planted.sum()))
        for least in grid
    ]


def split_found(data: Labelled, seed: int) -> Found:
    """Divides a share of the identities with 4 faces or more between two names, and searches for them."""
    points, identity = data
    rng = np.random.default_rng(seed)
    able = np.flatnonzero(np.bincount(identity) >= 4)
    people = int(identity.max()) + 1
    chosen = rng.choice(able, round(SHARE * len(able)), replace=False)
    labels = np.where(np.isin(identity, chosen) & (np.arange(len(identity)) % 2 == 1), identity + people, identity)
    order = np.argsort(labels, kind="stable")
    near = nearness(points[order], labels[order])
    pairs = {tuple(sorted(one.identities)) for one in split_identities(points[order], labels[order], near)}
    return len(pairs), len(pairs & {(int(one), int(one) + people) for one in chosen}), len(chosen)


def merged_found(data: Labelled, seed: int) -> Found:
    """Puts the same number of pairs of identities with 4 faces or more under one name, and searches for them."""
    points, identity = data
    rng = np.random.default_rng(seed)
    able = np.flatnonzero(np.bincount(identity) >= 4)
    chosen = rng.choice(able, (round(SHARE * len(able)), 2), replace=False)
    new = np.arange(int(identity.max()) + 1)
    new[chosen[:, 1]] = chosen[:, 0]
    labels = new[identity]
    order = np.argsort(labels, kind="stable")
    near = nearness(points[order], labels[order])
    found = {one.identity for one in merged_identities(points[order], labels[order], near)}
    return len(found), len(found & set(chosen[:, 0].tolist())), len(chosen)


def rates(found: list[Found]) -> dict[str, list[float]]:
    """Precision and recall, each its mean over seeds and the standard error."""
    each = np.array([(hit / max(listed, 1), hit / planted) for listed, hit, planted in found])
    error = each.std(0, ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.full(2, np.nan)
    return {name: [float(each[:, i].mean()), float(error[i])] for i, name in enumerate(("precision", "recall"))}


def best(by_seed: list[list[Found]]) -> float:
    """The suspicion with the best mean F."""
    listed, hit, planted = np.moveaxis(np.array(by_seed, float), -1, 0)
    return float(_GRID[np.argmax((2 * hit / (listed + planted)).mean(0))])


def main() -> None:
    """Plants errors, searches for them, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choose", type=Path, required=True, help="a dataset to choose the suspicion on")
    parser.add_argument("--measure", type=Path, required=True, help="another, to measure on")
    parser.add_argument("--embedder", default="sface", help="as for `facenet-jax audit` (%(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--keep", type=Path, default=ROOT / "runs" / "audit", help="where embeddings are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="for audit.md and .json")
    options = parser.parse_args()

    embedder = open_embedder(options.embedder)
    choose, measure = (embedded(folder, embedder, options.keep) for folder in (options.choose, options.measure))
    many = np.isin(choose[1], np.flatnonzero(np.bincount(choose[1]) >= _LEAST_FACES))
    seeds = range(options.seeds)
    large = choose[0][many], np.unique(choose[1][many], return_inverse=True)[1]
    least = best([wrong_found(large, seed, _GRID) for seed in seeds])
    print(f"suspicion chosen: {least:g} (the command leaves out faces with {EXCLUDE_FROM:g} or more)")
    datasets = {
        f"{options.choose.name}, people with {_LEAST_FACES} faces and more (chosen on)": large,
        f"{options.choose.name}, all": choose,
        options.measure.name: measure,
        "synthetic points": made_up(),
    }
    rows = []
    for name, data in datasets.items():
        looks: dict[str, Callable[[Labelled, int], Found]] = {
            "wrong labels, from 0 on": lambda data, seed: wrong_found(data, seed, np.zeros(1))[0],
            f"wrong labels, from {least:g} on": lambda data, seed: wrong_found(data, seed, np.array([least]))[0],
            "one person under two names": split_found,
            "two people under one name": merged_found,
        }
        for what, look in looks.items():
            found = rates([look(data, seed) for seed in seeds])
            rows.append({"dataset": name, "faces": len(data[1]), "identities": len(np.unique(data[1]))})
            rows[-1] |= {"what": what} | found
            print(f"{name:<55} {what:<30} precision {_percent(found['precision'])} recall {_percent(found['recall'])}")
    machine = describe_machine(("numpy", "scipy"))
    result = {"machine": machine, "seeds": options.seeds, "embedder": options.embedder, "suspicion": least}
    (options.out / "audit.json").write_text(json.dumps(result | {"rows": rows}, indent=1) + "\n")
    (options.out / "audit.md").write_text(table(rows, options.seeds, options.embedder) + f"\n{in_words(machine)}\n")


def table(rows: list[dict[str, Any]], seeds: int, embedder: str) -> str:
    """The figures in Markdown."""
    lines = ["# Audit: planted errors and findings", ""]
    lines += ["| dataset | faces | identities | searched for | precision | recall |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['dataset']} | {row['faces']:,} | {row['identities']:,} | {row['what']} "
            f"| {_percent(row['precision'])} | {_percent(row['recall'])} |"
        )
    lines += [
        "",
        "Planted errors: 5 % of the faces put under other names, or 5 % of the identities with 4 faces or more split, "
        f"or merged in pairs. Mean ± standard error over {seeds} seeds; embedder {embedder}. Labels of the real "
        "datasets that were wrong before count as false findings.",
    ]
    return "\n".join(lines) + "\n"


def _percent(rate: list[float]) -> str:
    return f"{100 * rate[0]:.1f} ± {100 * rate[1]:.1f} %"


if __name__ == "__main__":
    main()
