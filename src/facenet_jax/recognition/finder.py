"""Photographs -> every face on them and its point: an embedder, how it was named, and the crop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facenet_jax.embedders import CheckpointEmbedder, OnnxEmbedder, open_network
from facenet_jax.embedders.base import crop_for
from facenet_jax.embedders.engine import EmbeddedFaces, Images, embed_images
from facenet_jax.images.crop import Crop
from facenet_jax.images.cut import FaceCutter
from facenet_jax.runtime.progress import Progress


@dataclass(frozen=True)
class FaceFinder:
    """An embedder in use.

    Attributes:
      spec: what `open_embedder` was given.
      step: of a run's checkpoint; None for others.
      embedder: what was opened.
      crop: how faces are cut for it.
    """

    spec: str
    step: int | None
    embedder: CheckpointEmbedder | OnnxEmbedder
    crop: Crop

    def find(self, images: Images, keep: Path | None = None, progress: Progress | None = None) -> EmbeddedFaces:
        """Finds and embeds every face; arguments and errors as of `embed_images`."""
        return embed_images(self.embedder, images, FaceCutter(self.crop, every=True), keep, progress)

    @property
    def options(self) -> str:
        """The options that name it on the command line."""
        return f"--embedder {self.spec}{'' if self.step is None else f' --step {self.step}'} --crop {self.crop}"


def open_finder(spec: str, step: int | None = None, crop: Crop | None = None) -> FaceFinder:
    """Opens an embedder to find faces with.

    Args:
      spec, step: see `open_network`.
      crop: as `crop_for` takes it.

    Raises:
      InputError: there is no such embedder, it is a file of embeddings, or nobody says how faces are cut.
    """
    embedder = open_network(spec, step)
    own = embedder.step if isinstance(embedder, CheckpointEmbedder) else None
    return FaceFinder(spec, own, embedder, crop_for(embedder, crop))
