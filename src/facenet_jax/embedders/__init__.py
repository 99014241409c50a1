"""Embedders: anything that maps images to points on the unit sphere.

embedder = open_embedder("runs/nn4")  # or onnx:model.onnx, sface, embeddings.npz; flip:runs/nn4 with the mirror image
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from facenet_jax.embedders.base import Embedder, EmbeddingTable
from facenet_jax.embedders.checkpoint import CheckpointEmbedder
from facenet_jax.embedders.flipped import FLIP, FlippedEmbedder, network_of, with_flip
from facenet_jax.embedders.onnx import OnnxEmbedder, OnnxInput, open_onnx, open_sface, parse_onnx
from facenet_jax.embedders.table import SUFFIXES, FileOfEmbeddings
from facenet_jax.errors import InputError
from facenet_jax.runtime.files import locate

__all__ = [
    "CheckpointEmbedder",
    "Embedder",
    "EmbeddingTable",
    "FileOfEmbeddings",
    "FlippedEmbedder",
    "Network",
    "OnnxEmbedder",
    "OnnxInput",
    "is_run",
    "network_of",
    "open_embedder",
    "open_network",
    "with_flip",
]

# What takes images.
Network: TypeAlias = CheckpointEmbedder | OnnxEmbedder | FlippedEmbedder


def open_embedder(spec: str, step: int | None = None) -> Network | FileOfEmbeddings:
    """Opens an embedder.

    Args:
      spec: the working directory of a run; `onnx:PATH` with what `parse_onnx` takes; `sface`; or a file of embeddings.
        `flip:` before one that takes images: the mean with the mirror image, see `FlippedEmbedder`.
      step: of a run's checkpoint; None: the best, or the latest where none was measured.

    Raises:
      InputError: there is no such embedder, or it cannot be opened.
    """
    if spec.startswith(FLIP):
        return FlippedEmbedder(open_network(spec.removeprefix(FLIP), step))
    if step is not None and not is_run(spec):
        raise InputError(f"--step={step} says which checkpoint of a run, and {spec} is none; leave it out.")
    if spec == "sface":
        return open_sface()
    if spec.startswith("onnx:"):
        return open_onnx(*parse_onnx(spec.removeprefix("onnx:")))
    if spec.endswith(".onnx"):
        raise InputError(f"{spec} is an ONNX file; write onnx:{spec}, and its scaling where that is not -1 to 1.")
    if spec.endswith(SUFFIXES):
        return FileOfEmbeddings(Path(spec))
    return CheckpointEmbedder(locate(spec), step)


def is_run(spec: str) -> bool:
    """Whether an embedder is named by the working directory of a run, which has steps."""
    return locate(spec.removeprefix(FLIP)).is_dir()


def open_network(spec: str, step: int | None = None) -> Network:
    """Opens an embedder that takes images; arguments and errors as for `open_embedder`.

    Raises:
      InputError: it is a file of embeddings.
    """
    embedder = open_embedder(spec, step)
    if isinstance(embedder, FileOfEmbeddings):
        raise InputError(f"{spec} holds embeddings and no network; give a run, onnx:PATH or sface.")
    return embedder
