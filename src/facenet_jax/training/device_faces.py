"""Keeps all training faces on every device; a batch is a list of their positions."""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from numpy.typing import NDArray

from facenet_jax.datasets.source import FaceSource
from facenet_jax.input.loader import Batch, Loader, embedding_batches
from facenet_jax.runtime.mesh import BATCH_AXES, over_batch, padded_batch_size, replicated
from facenet_jax.runtime.progress import Progress, Tally

# Faces that come onto the devices at once while they are filled.
_BLOCK = 1024


def bytes_on_device(faces: int, size: tuple[int, int], batch_rows: int, mesh: Mesh) -> int:
    """What `DeviceFaces` takes of one device, with the two batches picked from it that wait.

    Args:
      faces: how many there are.
      size: (rows, columns) in pixels.
      batch_rows: of the global batch.
      mesh: whose devices these are.
    """
    block = padded_batch_size(min(_BLOCK, faces), mesh, 0)
    rows = -(-faces // block) * block + block + 2 * batch_rows // mesh.size
    return 3 * math.prod(size) * rows


class DeviceFaces:
    """Training faces, decoded once, whole on every device of a mesh.

    Each process decodes its share of them; the devices exchange the shares.

    Args:
      source: where the faces come from.
      records: int64 [faces], ascending.
      size: (rows, columns) in pixels.
      mesh: whose devices hold them.
      workers: processes that decode; 0: threads of this one.
      progress: where to report progress.
    """

    def __init__(
        self,
        source: FaceSource,
        records: NDArray[np.int64],
        size: tuple[int, int],
        mesh: Mesh,
        workers: int,
        progress: Progress,
    ) -> None:
        self._records, self._rows = records, over_batch(mesh)
        self._status = np.zeros(len(records), np.uint8)
        everywhere: Any = replicated(mesh)
        block = padded_batch_size(min(_BLOCK, len(records)), mesh, 0)
        blocks = -(-len(records) // block)
        pixels = jax.jit(lambda: jnp.zeros((blocks * block, *size, 3), jnp.uint8), out_shardings=everywhere)()
        put = jax.jit(
            partial(jax.lax.dynamic_update_slice_in_dim, axis=0),
            in_shardings=(everywhere, self._rows, everywhere),
            out_shardings=everywhere,
            donate_argnums=0,
        )
        same: Any = jax.jit(lambda status: status, out_shardings=everywhere)
        tally = Tally(progress, "faces onto the devices", len(records))
        batches = embedding_batches(
            source, records, size, block, workers, process_index=jax.process_index(), process_count=jax.process_count()
        )
        for number, batch in enumerate(batches):
            first = number * block
            pixels = put(pixels, self._divided(np.asarray(batch.images)), np.int32(first))
            pixels.block_until_ready()
            there = self._status[first : first + block]
            there[...] = np.asarray(same(self._divided(batch.status)))[: len(there)]
            tally.update(first + len(there))
        self._pixels = pixels
        own, all_of_it = P(BATCH_AXES), P()
        self._pick = jax.jit(
            jax.shard_map(_pick, mesh=mesh, in_specs=(all_of_it, own, own), out_specs=own),
            out_shardings=self._rows,
        )

    def batches(self, loader: Loader, start_step: int, stop_step: int) -> Generator[tuple[int, Batch]]:
        """The batches that a loader gives from one step to another, their pixels picked on the devices.

        Yields:
          (step, Batch), where `images` is an array of the global batch on the devices.
        """
        for step in range(start_step, stop_step):
            records, labels = loader.planned(step)
            places = np.searchsorted(self._records, np.maximum(records, self._records[0])).astype(np.int32)
            status = np.where(records >= 0, self._status[places], 0).astype(np.uint8)
            valid = (records >= 0) & (status == 0)
            picked = self._pick(self._pixels, *map(self._divided, (places, valid)))
            yield step, Batch(picked, labels, valid, records, status)

    def _divided(self, part: NDArray[Any]) -> jax.Array:
        return jax.make_array_from_process_local_data(self._rows, part)


def _pick(pixels: jax.Array, places: jax.Array, valid: jax.Array) -> jax.Array:
    return jnp.where(valid[:, None, None, None], pixels[places], 0)
