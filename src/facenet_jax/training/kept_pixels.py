"""Where a run keeps decoded faces: nowhere, in the host's memory, or on the devices."""

from __future__ import annotations

from dataclasses import dataclass

from jax.sharding import Mesh
from ml_collections import ConfigDict

from facenet_jax.errors import InputError
from facenet_jax.input.kept_faces import KeptFaces
from facenet_jax.runtime.hosts import processes_here
from facenet_jax.runtime.progress import amount
from facenet_jax.training.preflight import Estimate, host_bytes_available
from facenet_jax.training.training_faces import TrainingFaces

# Unless it is asked for, no more than this share of what is free is taken.
_SHARE = 0.5


@dataclass(frozen=True)
class Keeping:
    """Where decoded faces are kept, and why.

    Attributes:
      where: none, host or device.
      why: for the screen.
    """

    where: str
    why: str

    def describe(self) -> str:
        """A line for the screen."""
        words = {
            "none": "not kept, decoded for each batch",
            "host": "kept in memory, each decoded once",
            "device": "kept on every device, each decoded once",
        }
        return f"decoded faces   {words[self.where]} ({self.why})"


def choose(config: ConfigDict, faces: TrainingFaces, mesh: Mesh, step: Estimate) -> Keeping:
    """Where the faces of a run are kept; every process of a job asks.

    Args:
      config: of the run, whose `data.cache` is obeyed.
      faces: trained on.
      mesh: what the run takes place on.
      step: what the compiled step takes: only the rest is free.

    Raises:
      InputError: what is asked for does not fit.
    """
    asked, size, here = config.data.cache, tuple(config.model.input_size), processes_here()
    if asked == "none":
        return Keeping("none", "data.cache=none")
    needed = KeptFaces.bytes_of(faces.train, size)
    free = host_bytes_available()
    if free is not None:
        free //= here
    if free is not None and mesh.devices.flat[0].platform == "cpu":
        free = max(0, free - step.bytes_needed * len(mesh.local_devices))  # the step takes memory of the host
    if asked == "auto" and free is None:
        return Keeping("none", "how much memory is free cannot be told")
    why = f"{amount(needed)}" + ("" if free is None else f" of the {amount(free)} that the step leaves free")
    if free is None or needed <= free * (1 if asked == "host" else _SHARE):
        return Keeping("host", why)
    if asked == "host":
        raise InputError(
            f"config.data.cache=host: {faces.train.index.records:,} decoded faces take {why}; set "
            "--config.data.cache=none, or lower config.model.input_size."
        )
    return Keeping("none", f"they would take {why}")
