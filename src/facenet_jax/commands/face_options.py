"""The options that say what faces are found and embedded with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facenet_jax.recognition.finder import FaceFinder

CROPS = ("none", "centre", "tight", "similarity")

EPILOG = """\
EMBEDDER is the working directory of a run, sface, or onnx:PATH, as for `facenet-jax evaluate`. Finding faces (crops
tight and similarity) needs
  pip install 'facenet-jax[align]'
Only with the consent of those who are shown: docs/recognition.md.
"""


def add_embedder(parser: Any, needed: bool = True) -> None:
    """Adds --embedder, --step and --crop."""
    parser.add_argument("--embedder", required=needed, metavar="EMBEDDER", help="what makes the points")
    parser.add_argument("--step", type=int, help="of a run's checkpoint (default: the best, or else the latest)")
    parser.add_argument(
        "--crop",
        choices=CROPS,
        help="how faces are cut: tight, similarity (all that are found), centre (the middle), none (they are cut "
        "already) (default: as the embedder, or the dataset that a run was trained on, says)",
    )


def add_threshold(parser: Any, text: str) -> None:
    """Adds --evaluation."""
    parser.add_argument("--evaluation", type=Path, metavar="FILE.json", help=text)


def finder_of(options: argparse.Namespace) -> FaceFinder:
    """Opens what was asked for."""
    from facenet_jax.recognition.finder import open_finder

    return open_finder(options.embedder, options.step, options.crop)
