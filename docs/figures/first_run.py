"""Draws docs/first_run.png: a training curve, and drawn faces with their nearest neighbours by the run's embedding.

python docs/figures/first_run.py runs/quickstart [FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from PIL import Image

# People that are neither trained on nor held out, since they are drawn with another seed.
_SEED, _PEOPLE, _FACES, _SHOWN, _QUERIES = 5, 200, 5, 6, 4
_RIGHT, _WRONG = "#2e7d32", "#c62828"


def neighbours(points: NDArray[np.floating[Any]], query: int, count: int) -> NDArray[np.intp]:
    """The rows of the points nearest to a query by squared distance, itself left out: [count], the nearest first."""
    distances = np.sum((points - points[query]) ** 2, axis=1)
    distances[query] = np.inf
    return np.argsort(distances, kind="stable")[:count]


def curve(metrics: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of metrics that hold a loss, and those that hold VAL."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [line for line in lines if "loss" in line], [line for line in lines if "val_far_0.01" in line]


def first_run_figure(
    metrics: Path, faces: NDArray[np.uint8], points: NDArray[np.floating[Any]], path: Path, queries: list[int]
) -> None:
    """Draws the picture.

    Args:
      metrics: of the run.
      faces: uint8 [people * _FACES, rows, columns, 3], a person's one after another.
      points: their embeddings [people * _FACES, d].
      path: the PNG to write.
      queries: the faces whose neighbours are shown, one a row.
    """
    losses, rates = curve(metrics)
    figure = plt.figure(figsize=(10, 4.2), dpi=130, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    axis = left.subplots()
    steps = [line["step"] for line in losses]
    axis.plot(steps, [line["loss"] for line in losses], color="#5c6bc0", linewidth=1)
    axis.set(xlabel="step", ylim=(0, 0.21), title="training on drawn faces")
    axis.set_ylabel("triplet loss", color="#5c6bc0")
    other = axis.twinx()
    other.plot(
        [line["step"] for line in rates],
        [100 * line["val_far_0.01"] for line in rates],
        "o-",
        color="#ef6c00",
        linewidth=2,
    )
    other.set_ylim(0, 100)
    other.set_ylabel("VAL at FAR 0.01 in %, people held out", color="#ef6c00")
    cells = right.subplots(len(queries), _SHOWN + 1, squeeze=False)
    right.suptitle(f"a face, and the nearest of {len(faces) - 1:,} others: people never trained on", fontsize=11)
    for row, query in zip(cells, queries, strict=True):
        for column, (cell, which) in enumerate(zip(row, [query, *neighbours(points, query, _SHOWN)], strict=True)):
            cell.imshow(faces[which])
            cell.set(xticks=[], yticks=[])
            same = which // _FACES == query // _FACES
            for spine in cell.spines.values():
                spine.set(color="black" if column == 0 else _RIGHT if same else _WRONG, linewidth=2.5)
    right.supxlabel("green: the same person (four others there are); red: another", fontsize=9)
    figure.savefig(path)
    plt.close(figure)
    with Image.open(path) as image:
        image.convert("RGB").quantize(256).save(path, optimize=True)


def main() -> None:
    """Draws it of a run into the folder that is named, or docs/."""
    from facenet_jax import FaceEmbedder
    from facenet_jax.datasets.drawn import render_batch

    run = Path(sys.argv[1])
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).resolve().parents[1]
    who, which = np.divmod(np.arange(_PEOPLE * _FACES), _FACES)
    faces = render_batch(_SEED, who, which, (64, 64))
    points = FaceEmbedder.load(run).embed(faces)
    first_run_figure(
        run / "metrics.jsonl", faces, points, folder / "first_run.png", [_FACES * n for n in range(_QUERIES)]
    )


if __name__ == "__main__":
    main()
