"""Tests whether drawn faces are hard enough: colour histograms and a trained network on the same held-out faces.

Drawn faces are useful only if colour alone fails and a small network succeeds. Run, after `make train`:

    python -m benchmarks.drawn_faces --run runs/quickstart
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.ending import exit_code
from facenet_jax.config import load_config
from facenet_jax.embedders import CheckpointEmbedder
from facenet_jax.evaluation.holdout import format_holdout, holdout
from facenet_jax.input.loader import embedding_batches
from facenet_jax.training.evaluator import Evaluator
from facenet_jax.training.training_faces import open_faces


def histograms(images: NDArray[np.uint8], bins: int = 8) -> NDArray[np.float32]:
    """Joint RGB histograms [n, bins^3] on the unit sphere; distances between them are Hellinger's, up to a factor."""
    level = images.reshape(len(images), -1, 3).astype(np.int64) * bins // 256
    cell = (level[..., 0] * bins + level[..., 1]) * bins + level[..., 2]
    counts = np.stack([np.bincount(one, minlength=bins**3) for one in cell])
    return np.sqrt(counts / counts.sum(1, keepdims=True)).astype(np.float32)


def nearest_is_same(points: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Rank-1 accuracy: the share of faces whose nearest other face is of the same identity (1-NN)."""
    distances = 2 - 2 * points @ points.T
    np.fill_diagonal(distances, np.inf)
    return float(np.mean(labels[distances.argmin(1)] == labels))


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="working directory of a run of configs/quickstart.py")
    options = parser.parse_args()

    config = load_config("quickstart", [])
    faces = open_faces(config)
    rows, columns = config.model.input_size
    points, labels = [], []
    held_out = faces.held_out
    for batch in embedding_batches(held_out.source, held_out.records, (rows, columns), 250):
        points.append(histograms(batch.images[batch.valid]))
        labels.append(held_out.source.index.identity_of(batch.records[batch.valid]))
    colours, who = np.concatenate(points), np.concatenate(labels)
    print(f"colour histograms (8x8x8 RGB)\n{format_holdout(holdout(colours, who))}")
    print(f"rank-1 {nearest_is_same(colours, who):.1%}")
    if options.run:
        run = CheckpointEmbedder(options.run)
        judge = Evaluator(run.config, run.network, run.mesh, open_faces(run.config).held_out)
        print(f"\n{run.name}\n{format_holdout(judge(run.params))}")


if __name__ == "__main__":
    sys.exit(exit_code("drawn_faces", main))
