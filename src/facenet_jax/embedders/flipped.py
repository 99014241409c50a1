"""An embedder that averages the embeddings of a face and of its mirror image."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.base import WITH_FLIP, on_unit_sphere
from facenet_jax.embedders.checkpoint import CheckpointEmbedder
from facenet_jax.embedders.onnx import OnnxEmbedder
from facenet_jax.embedders.table import FileOfEmbeddings
from facenet_jax.errors import InputError

# Before the name of an embedder: flip:runs/nn4, flip:sface, flip:onnx:nn4.onnx. Indexes on disk hold such names.
FLIP = "flip:"


class FlippedEmbedder:
    """A network that embeds each face and its mirror image; the point is their mean, on the unit sphere.

    Twice the work of the network alone. Such points are not those of the network alone: name and digest differ, so
    that an index, a threshold or a kept embedding of one is refused for the other.

    Attributes:
      single: the network.
      name, digest, size, crop, batch, remarks: see `Embedder`.
    """

    name: str
    flipped = True

    def __init__(self, single: CheckpointEmbedder | OnnxEmbedder | FlippedEmbedder) -> None:
        """Wraps a network that is open.

        Raises:
          InputError: it takes the mean with the mirror image already.
        """
        if isinstance(single, FlippedEmbedder) or single.flipped:
            raise InputError(f"{single.name} takes the mean with the mirror image already; leave flip out.")
        self.single = single
        self.name = single.name + WITH_FLIP
        self.size = single.size
        self.batch = single.batch
        self.remarks = single.remarks

    @property
    def crop(self) -> str:
        """See `Embedder`."""
        return self.single.crop

    @cached_property
    def digest(self) -> str:
        """See `Embedder`."""
        return f"flip|{self.single.digest}"

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Embedder`. The mirror images are a view: the network copies them a batch at a time, as others."""
        points, mirrored = self.single.embed(images), self.single.embed(images[:, :, ::-1])
        total = points.astype(np.float64) + mirrored
        norms = np.linalg.norm(total, axis=1, keepdims=True)
        # Opposite points have no mean; they stay zero, which is refused.
        return on_unit_sphere(total / np.where(norms > 0, norms, 1), self.name, self.remarks.append)


def network_of(
    embedder: CheckpointEmbedder | OnnxEmbedder | FlippedEmbedder | FileOfEmbeddings,
) -> CheckpointEmbedder | OnnxEmbedder | FileOfEmbeddings:
    """What embeds single images: the network of a `FlippedEmbedder`; any other itself."""
    return embedder.single if isinstance(embedder, FlippedEmbedder) else embedder


def with_flip(spec: str, flip: bool = True) -> str:
    """The name of an embedder as `open_embedder` takes it, with the mirror image where that is asked for."""
    return f"{FLIP}{spec}" if flip and not spec.startswith(FLIP) else spec
