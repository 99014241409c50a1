"""What faces are found and embedded with: an embedder, how it was named, and the crop."""

from __future__ import annotations

from dataclasses import dataclass

from facenet_jax.embedders import CheckpointEmbedder, OnnxEmbedder, open_network
from facenet_jax.embedders.base import crop_for
from facenet_jax.images.crop import Crop
from facenet_jax.images.cut import FaceCutter


@dataclass(frozen=True)
class Setup:
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

    @property
    def cutter(self) -> FaceCutter:
        """Cuts every face for it."""
        return FaceCutter(self.crop, every=True)

    @property
    def options(self) -> str:
        """The options that name it on the command line."""
        return f"--embedder {self.spec}{'' if self.step is None else f' --step {self.step}'} --crop {self.crop}"


def open_setup(spec: str, step: int | None = None, crop: Crop | None = None) -> Setup:
    """Opens an embedder to find faces with.

    Args:
      spec, step: see `open_network`.
      crop: as `crop_for` takes it.

    Raises:
      InputError: there is no such embedder, it is a file of embeddings, or nobody says how faces are cut.
    """
    embedder = open_network(spec, step)
    own = embedder.step if isinstance(embedder, CheckpointEmbedder) else None
    return Setup(spec, own, embedder, crop_for(embedder, crop))
