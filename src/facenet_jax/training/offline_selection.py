"""Offline selection: embeds a subset with the latest parameters and finds its hard faces, for later batches.

The table of hard faces is kept in `<workdir>/offline/<step>.npz` for as long as a checkpoint needs it, so that a run
that continues makes the same batches until the next table is due.
"""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from numpy.typing import NDArray

from facenet_jax.datasets.source import FaceSource
from facenet_jax.errors import InputError, TrainingError, first_line
from facenet_jax.input.bad_files import BadFiles
from facenet_jax.input.hard_batches import HardTable, MixedPlan, TripletPlan, subset
from facenet_jax.input.plan import Plan
from facenet_jax.runtime.compiled import announced, deterministic_options
from facenet_jax.runtime.files import read_arrays, write_whole
from facenet_jax.runtime.hosts import is_first
from facenet_jax.runtime.mesh import over_batch, padded_batch_size, platform_of, replicated
from facenet_jax.training.embedding import Embedding
from facenet_jax.training.training_faces import TrainingFaces, online_plan
from facenet_jax.triplets import hardest_faces

FOLDER = "offline"
# What a table holds of an anchor: its hardest positives (the paper's argmax) and nearest negatives (argmin, and more).
_POSITIVES, _NEGATIVES = 1, 5
# mixed: the share of a batch, random negatives aside, that comes from the table.
_SHARE = 0.5
# A label looks wrong where this share of the negatives is nearer than the median of the positives. A face under a name
# drawn at random has any share with the same chance, so about half of such faces are found, and hardly any other.
WRONG_SHARE = 0.5


@dataclass(frozen=True)
class HardFacesFound:
    """What a table of hard faces says of the data.

    Attributes:
      faces: those that were embedded.
      wrong_share: the share of them whose label looks wrong, see WRONG_SHARE.
      mean_hardest_ap: mean D(a, p) of the hardest positives.
      mean_nearest_an: mean D(a, n) of the nearest negatives.
    """

    faces: int
    wrong_share: float
    mean_hardest_ap: float
    mean_nearest_an: float

    def metrics(self) -> dict[str, float]:
        """For metrics.jsonl."""
        return {
            "offline_faces": self.faces,
            "offline_wrong_share": self.wrong_share,
            "offline_hardest_ap": self.mean_hardest_ap,
            "offline_nearest_an": self.mean_nearest_an,
        }

    def describe(self, step: int) -> str:
        """A line for the screen."""
        return (
            f"step {step:,}: hard faces among {self.faces:,}: on average the hardest D(a,p) is "
            f"{self.mean_hardest_ap:.3f} and the nearest D(a,n) {self.mean_nearest_an:.3f}; {self.wrong_share:.1%} of "
            "the labels look wrong (positives farther than most negatives), or the network does not know better yet"
        )


def is_listed(steps: int, config: ConfigDict) -> bool:
    """Whether the batch after `steps` steps is triplets of a table of hard faces, and nothing is selected from it."""
    return bool(config.offline.mode == "alone" and config.offline.every and steps >= config.offline.every)


class OfflineSelection:
    """Makes, saves and finds again the tables of a run, and the plans of batches that follow from them."""

    def __init__(self, config: ConfigDict, network: nn.Module, mesh: Mesh, faces: TrainingFaces, workdir: Path) -> None:
        """Prepares; nothing is read yet.

        Args:
          config: of the run.
          network: pixels -> embeddings.
          mesh: what it runs on.
          faces: trained on.
          workdir: of the run.

        Raises:
          InputError: such batches cannot be had of these faces, or the batch is too small to be shared out.
        """
        self._config = config
        self._mesh = mesh
        self._faces = faces
        self._plan = online_plan(config, faces, config.batch.size)
        self._folder = workdir / FOLDER
        self._embed = Embedding(config, network, mesh)
        self._mixed_rows = 0
        if self.every and config.offline.mode == "mixed":
            self._mixed_rows = round(_SHARE * (config.batch.size - config.batch.random_negatives))
            self._rest = online_plan(config, faces, config.batch.size - self._mixed_rows)

    @property
    def every(self) -> int:
        """Steps between tables; 0 where there are none."""
        return int(self._config.offline.every)

    def segments(self, first_step: int, stop_step: int) -> list[tuple[int, int]]:
        """The steps of a run cut where a table is due: (first, stop) of each piece."""
        if first_step >= stop_step:  # nothing is left to do, and no table to be made for it
            return []
        if not self.every:
            return [(first_step, stop_step)]
        cuts = range(first_step - first_step % self.every + self.every, stop_step, self.every)
        borders = [first_step, *cuts, stop_step]
        return list(itertools.pairwise(borders))

    def table_step(self, step: int) -> int:
        """At which step the table was made that the batch of a step needs; 0 where it needs none."""
        return step - step % self.every if self.every else 0

    def load(self, step: int) -> HardTable | None:
        """The saved table for the batches from a step on; None where they need none, or where it is made at that step.

        Raises:
          InputError: it is missing, cannot be read, or belongs to another run.
        """
        table_step = self.table_step(step)
        path = self._path(table_step)
        if not table_step or (table_step == step and not path.exists()):
            return None
        again = f"or remove the checkpoints after step {table_step:,} so that it is made again."
        if not path.exists():
            raise InputError(
                f"the table of hard faces of step {table_step:,} is missing in {self._folder}, and the batches after "
                f"step {step:,} need it; put it back, {again}"
            )
        try:
            saved = read_arrays(path)
            made_for = str(saved["made_for"])
            table = HardTable(table_step, saved["anchors"], saved["positives"], saved["negatives"])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{path} cannot be read ({first_line(error)}), and the batches after step {table_step:,} "
                f"need it; put it back, {again}"
            ) from error
        if made_for != self._made_for(table_step):
            raise InputError(f"{path} was made by another run; put back this run's own file.")
        return table

    def make(self, step: int, params: Any, source: FaceSource, bad_files: BadFiles) -> tuple[HardTable, HardFacesFound]:
        """Finds the hard faces with these parameters, and saves the table before it is used.

        Args:
          step: how many have been taken.
          params: the latest.
          source: of the training faces.
          bad_files: where faces that cannot be decoded are listed.
        """
        config, index = self._config, self._faces.train.index
        records = subset(self._plan, config.offline.faces, step)
        batches = self._embed.batches(source, records, bad_files)
        points, valid = self._embed(params, batches, len(records))
        labels = index.identity_of(records)
        places = np.unique(labels, return_inverse=True)[1]
        rows = padded_batch_size(len(records), self._mesh, 0)
        more = rows - len(records)
        search = jax.jit(
            lambda *arrays: hardest_faces(
                *arrays,
                mesh=self._mesh,
                positives=_POSITIVES,
                negatives=_NEGATIVES,
                faces_per_identity=int(np.bincount(places).max()),
            ),
            out_shardings=replicated(self._mesh),
            compiler_options=deterministic_options(config.deterministic, platform_of(self._mesh)),
        )
        padded = (  # the same in every process
            np.pad(points, ((0, more), (0, 0))),
            np.pad(places.astype(np.int32), (0, more)),
            np.pad(valid, (0, more)),
        )
        found = jax.tree.map(
            lambda x: np.asarray(x)[: len(records)][valid],
            announced(search, f"the search for hard faces among {len(records):,}")(
                *(jax.device_put(array, over_batch(self._mesh)) for array in padded)
            ),
        )
        table = HardTable(
            step,
            records[valid],
            np.where(found.positive >= 0, records[found.positive], -1),
            np.where(found.negative >= 0, records[found.negative], -1),
        )
        self._save(table)
        summary = HardFacesFound(
            faces=len(table.anchors),
            wrong_share=float(np.mean(found.nearer_negatives >= WRONG_SHARE)) if len(table.anchors) else 0.0,
            mean_hardest_ap=_mean(found.d_ap[:, 0], found.positive[:, 0] >= 0),
            mean_nearest_an=_mean(found.d_an[:, 0], found.negative[:, 0] >= 0),
        )
        return table, summary

    def _save(self, table: HardTable) -> None:
        if not is_first():
            return  # every process has made the same table
        self._folder.mkdir(exist_ok=True)
        file = io.BytesIO()
        np.savez(
            file,
            made_for=np.array(self._made_for(table.step)),
            anchors=table.anchors,
            positives=table.positives,
            negatives=table.negatives,
        )
        write_whole(self._path(table.step), file.getvalue())

    def plan(self, step: int, table: HardTable | None) -> Plan:
        """The plan of the batches from a step on until the next table.

        Raises:
          TrainingError: the table holds no triplet.
        """
        if table is None:
            return self._plan
        index, config = self._faces.train.index, self._config
        if config.offline.mode == "mixed":
            return MixedPlan(self._rest, table, self._mixed_rows, index, config.seed)
        if not ((table.positives >= 0).any() and (table.negatives >= 0).any()):
            raise TrainingError(
                f"the table of hard faces of step {table.step} holds no triplet, for hardly a face of its subset could "
                "be decoded; raise config.offline.faces or fix the files named in bad_files.txt."
            )
        return TripletPlan(table, config.batch.size, index, config.seed)

    def forget(self, needed_by: list[int]) -> None:
        """Removes the tables that no step of these needs."""
        if not is_first():
            return
        needed = {self.table_step(step) for step in needed_by}
        for path in self._folder.glob("*.npz"):
            if path.stem.isdigit() and int(path.stem) not in needed:
                path.unlink(missing_ok=True)

    def _path(self, step: int) -> Path:
        return self._folder / f"{step}.npz"

    def _made_for(self, step: int) -> str:
        # Tables name these three as they did when they were options of a run.
        offline = self._config.offline.to_dict() | {"share": _SHARE, "positives": _POSITIVES, "negatives": _NEGATIVES}
        return json.dumps(
            {"step": step, "seed": self._config.seed, "offline": offline, "faces": self._faces.digest}, sort_keys=True
        )


def _mean(values: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else 0.0
