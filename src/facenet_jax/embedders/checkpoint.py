"""A checkpoint of a run as an embedder."""

from __future__ import annotations

import hashlib
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from numpy.typing import NDArray

from facenet_jax import models
from facenet_jax.config import datasets_of, from_saved
from facenet_jax.datasets.open import crop_of
from facenet_jax.embedders.base import check_images, on_unit_sphere
from facenet_jax.errors import InputError, first_line
from facenet_jax.models.networks import apply_network
from facenet_jax.runtime.checkpoints import Checkpoints
from facenet_jax.runtime.compiled import announced
from facenet_jax.runtime.json_files import read_json
from facenet_jax.runtime.mesh import make_mesh, over_batch, padded_batch_size, replicated

# This many images or fewer are not worth a batch.
_FEW = 8


class CheckpointEmbedder:
    """The network of a run with the parameters of one of its checkpoints; images are divided over the mesh.

    Attributes:
      workdir: of the run.
      step: of the checkpoint.
      config: that made it.
      params: on the mesh, replicated.
      training: what it was trained on, for people, where that was noted: data, faces, identities.
      name, digest, size, crop, batch, remarks: see `Embedder`.
    """

    flipped = False

    def __init__(self, workdir: Path, step: int | None = None, mesh: Mesh | None = None) -> None:
        """Opens a checkpoint.

        Args:
          workdir: of the run.
          step: of the checkpoint; None: the best, or the latest where none was measured.
          mesh: what it runs on; None: all devices.

        Raises:
          InputError: no such run or checkpoint, or it is damaged.
        """
        checkpoints = Checkpoints(workdir, read_only=True)
        try:
            if step is not None and step not in checkpoints.steps():
                there = ", ".join(str(s) for s in checkpoints.steps()) or "none"
                raise InputError(f"{workdir} has no checkpoint of step {step}; there are: {there}.")
            self.step = checkpoints.best_or_latest() if step is None else step
            self.config, params = _restored(checkpoints, self.step, workdir)
        finally:
            checkpoints.close()
        self.workdir = workdir
        self.mesh = mesh or make_mesh()
        self.network = models.from_config(self.config.model)
        self.params = jax.device_put(params, replicated(self.mesh))
        self.name = f"{workdir} at step {self.step:,}"
        rows, columns = self.config.model.input_size
        self.size = int(rows), int(columns)
        self.batch = padded_batch_size(self.config.eval.batch, self.mesh, 0)
        self.remarks: list[str] = []
        self.training: dict[str, int | str] = {}
        network = self.network
        embed = jax.jit(
            partial(apply_network, network),
            in_shardings=(replicated(self.mesh), over_batch(self.mesh)),
            out_shardings=over_batch(self.mesh),
        )
        self._embed = announced(embed, f"{self.config.model.name}, to embed with")

    @cached_property
    def crop(self) -> str:
        """See `Embedder`: as the faces that it was trained on, while they are there; of several crops none."""
        crops = {crop_of(Path(path)) for path, _ in datasets_of(self.config)}
        return crops.pop() if len(crops) == 1 else "none"

    @cached_property
    def digest(self) -> str:
        """See `Embedder`: of the parameters, since a directory may hold another run of as many steps later."""
        found = hashlib.blake2b(_network_text(self.config.model).encode(), digest_size=16)
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.params):
            found.update(f"{path}{self.size}".encode() + np.asarray(leaf).tobytes())
        return found.hexdigest()

    @cached_property
    def compatible_with(self) -> str | None:
        """The digest of the embedder with whose points this run's can be compared, as run.json says; None: of none."""
        try:
            return str(read_json(self.workdir / "run.json")["digests"]["compatible_with"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Embedder`; one program for many images, and one for a few."""
        check_images(images, self.size, self.name)
        parts = [np.empty((0, self.config.model.embedding_size), np.float32)]
        few = min(padded_batch_size(_FEW, self.mesh, 0), self.batch)
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            rows = few if len(images) <= few else self.batch
            padded = np.pad(part, ((0, rows - len(part)), (0, 0), (0, 0), (0, 0)))
            on_devices = jax.device_put(padded, over_batch(self.mesh))
            parts.append(np.asarray(self._embed(self.params, on_devices))[: len(part)])
        return on_unit_sphere(np.concatenate(parts), self.name, self.remarks.append)


def _network_text(model: ConfigDict) -> str:
    """A network in words that must never change: indexes and evaluations on disk hold digests of them."""
    five_by_five = model.five_by_five or models.NETWORKS[model.name].five_by_five
    attributes = {"embedding_size": model.embedding_size}
    if five_by_five is not None:
        attributes["five_by_five"] = five_by_five
    attributes |= {"norm": model.norm, "dtype": model.dtype}
    if model.members > 1:
        attributes["members"] = model.members
    lines = [f"    {name} = {value!r}" for name, value in attributes.items()]
    kind = "NN2" if model.name in ("nn2", "nn3", "nn4") else model.name.upper()
    return "\n".join([f"{kind}(", "    # attributes", *lines, ")"])


def _restored(checkpoints: Checkpoints, step: int, workdir: Path) -> tuple[ConfigDict, Any]:
    """The config and the parameters of a checkpoint."""
    try:
        return from_saved(checkpoints.config(step)), checkpoints.restore_params(step)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise InputError(
            f"the checkpoint of step {step} in {workdir} is damaged, or not whole ({first_line(error)[:100]}); give "
            "another --step, or copy it again."
        ) from error
