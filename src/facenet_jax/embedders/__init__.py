"""Anything that maps images to points on the unit sphere, to be measured by the same protocols.

embedder = open_embedder("runs/nn4")  # or onnx:model.onnx, sface, embeddings.npz
"""

from __future__ import annotations

from pathlib import Path

from facenet_jax.embedders.base import Embedder, EmbeddingTable
from facenet_jax.embedders.checkpoint import CheckpointEmbedder
from facenet_jax.embedders.onnx import OnnxEmbedder, OnnxInput, open_onnx, open_sface, parse_onnx
from facenet_jax.embedders.table import SUFFIXES, FileOfEmbeddings
from facenet_jax.errors import InputError

__all__ = [
    "CheckpointEmbedder",
    "Embedder",
    "EmbeddingTable",
    "FileOfEmbeddings",
    "OnnxEmbedder",
    "OnnxInput",
    "open_embedder",
    "open_network",
]


def open_embedder(spec: str, step: int | None = None) -> CheckpointEmbedder | OnnxEmbedder | FileOfEmbeddings:
    """Opens an embedder.

    Args:
      spec: the working directory of a run; `onnx:PATH` with what `parse_onnx` takes; `sface`; or a file of embeddings.
      step: of a run's checkpoint; None: the best, or the latest where none was measured.

    Raises:
      InputError: there is no such embedder, or it cannot be opened.
    """
    if step is not None and not Path(spec).is_dir():
        raise InputError(f"--step={step} says which checkpoint of a run, and {spec} is none; leave it out.")
    if spec == "sface":
        return open_sface()
    if spec.startswith("onnx:"):
        return open_onnx(*parse_onnx(spec.removeprefix("onnx:")))
    if spec.endswith(".onnx"):
        raise InputError(f"{spec} is an ONNX file; write onnx:{spec}, and its scaling where that is not -1 to 1.")
    if spec.endswith(SUFFIXES):
        return FileOfEmbeddings(Path(spec))
    return CheckpointEmbedder(Path(spec), step)


def open_network(spec: str, step: int | None = None) -> CheckpointEmbedder | OnnxEmbedder:
    """Opens an embedder that takes images; arguments and errors as of `open_embedder`.

    Raises:
      InputError: it is a file of embeddings.
    """
    embedder = open_embedder(spec, step)
    if isinstance(embedder, FileOfEmbeddings):
        raise InputError(f"{spec} holds embeddings and no network; give a run, onnx:PATH or sface.")
    return embedder
