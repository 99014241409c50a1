"""Chooses where a run keeps decoded faces: nowhere, in the host's memory, or on the devices."""

from __future__ import annotations

from dataclasses import dataclass

from jax.sharding import Mesh
from ml_collections import ConfigDict

from facenet_jax.errors import InputError
from facenet_jax.input.kept_faces import KeptFaces
from facenet_jax.runtime.hosts import all_say, processes_here
from facenet_jax.runtime.mesh import on_cpu, padded_batch_size
from facenet_jax.runtime.progress import amount
from facenet_jax.training.device_faces import bytes_on_device
from facenet_jax.training.preflight import Estimate, host_bytes_available
from facenet_jax.training.training_faces import TrainingFaces

# Unless more is asked for, faces are kept where they take at most this share of what is free.
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
    asked = config.data.cache
    if asked == "none":
        return Keeping("none", "data.cache=none")
    if asked == "device" or (asked == "auto" and not on_cpu(mesh)):
        room = _room_on_device(config, faces, mesh, step)
        if all_say(room.suffices(asked == "device")):
            return Keeping("device", str(room))
        if asked == "device":
            raise InputError(
                f"config.data.cache=device: {faces.train.index.records:,} decoded faces take {room}; set "
                "--config.data.cache=host."
            )
    room = _room_on_host(config, faces, mesh, step)
    if room.suffices(asked == "host"):
        return Keeping("host", str(room))
    if asked == "host":
        raise InputError(
            f"config.data.cache=host: {faces.train.index.records:,} decoded faces take {room}; set "
            "--config.data.cache=none, or lower config.model.input_size."
        )
    return Keeping("none", f"they would take {room}")


@dataclass(frozen=True)
class _Room:
    """Bytes that decoded faces take, and those that are free besides the step; None: unknown."""

    needed: int
    free: int | None

    def suffices(self, asked: bool) -> bool:
        """Whether there is enough: where it is asked for, all that is free may be taken."""
        return asked if self.free is None else self.needed <= self.free * (1 if asked else _SHARE)

    def __str__(self) -> str:
        if self.free is None:
            return f"{amount(self.needed)}, and how much the step leaves free cannot be determined"
        return f"{amount(self.needed)} of the {amount(self.free)} that the step leaves free"


def _room_on_device(config: ConfigDict, faces: TrainingFaces, mesh: Mesh, step: Estimate) -> _Room:
    count = int(faces.train.index.counts[faces.train_identities].sum())
    rows = padded_batch_size(config.batch.size, mesh, config.batch.chunk)
    free = None if step.bytes_available is None else max(0, step.bytes_available - step.bytes_needed)
    return _Room(bytes_on_device(count, tuple(config.model.input_size), rows, mesh), free)


def _room_on_host(config: ConfigDict, faces: TrainingFaces, mesh: Mesh, step: Estimate) -> _Room:
    here = processes_here()
    free = host_bytes_available()
    if free is not None:
        step_takes = step.bytes_needed * len(mesh.local_devices) if on_cpu(mesh) else 0
        free = max(0, free // here - step_takes)
    return _Room(KeptFaces.bytes_of(faces.train, tuple(config.model.input_size)), free)
