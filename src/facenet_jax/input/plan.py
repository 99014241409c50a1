"""The batch plan: which faces make up the batch of a step (section 3.2 of the paper).

The paper wants a minimal number of exemplars of each identity in every mini-batch, "around 40 faces are selected per
identity per mini-batch", adds randomly sampled negative faces, and uses batches "of around 1,800 exemplars".

The plan is a pure function of (seed, step): no generator is carried from batch to batch, so a run resumes at any step
and every host works out the same batch.

- An epoch visits all identities with min_faces_per_identity faces or more in a keyed order, each giving up to
  faces_per_identity faces (see facenet_jax.input.visits), and cuts the sequence of their faces into equal batches; an
  identity that straddles a border is cut, the tail of the epoch is dropped.
- Each batch is filled with random negatives, drawn uniformly from the faces not yet in it, those of identities that
  are not visited included. They carry their true label.
- In a mixture each dataset has epochs of its own. Of the A faces of a batch that are visits, dataset d with its share w
  of the weights gives w A, to the nearest numbers whose sum is A: up to any step all of its batches together hold w of
  the visits to within one face. A random negative is first of dataset d with probability w.

No face is twice in a batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.errors import InputError
from facenet_jax.input.visits import PlannedFaces, Visits
from facenet_jax.runtime import hashing

_NEGATIVES, _DATASET = 0x9E6A7, 0xDA7A5


class Plan(Protocol):
    """Anything that says which faces make up the batch of a step."""

    def batch(self, step: int) -> PlannedFaces:
        """The faces of global batch `step`."""
        ...


class DatasetShare(NamedTuple):
    """One dataset of a mixture and its share of a batch.

    Attributes:
      identities: ascending int64 identity numbers; no identity is in two datasets.
      weight: its share of the batch, in proportion to the other datasets'.
      name: for errors.
    """

    identities: NDArray[np.int64]
    weight: float
    name: str


class BatchPlan:
    """The plan of section 3.2.

    Attributes:
      size: faces in a batch.
      anchors: how many of them come from visits; the others are random negatives, and stand last.
      one_person: whether every batch shows one person alone.
      batches_per_epoch: how many batches visit every identity once (of the dataset that takes longest, in a mixture).

    Args:
      index: the identities of the source.
      identities: ascending int64 identity numbers to train on, or several datasets' with their weights; all of them
        where None.
      size: faces in a batch.
      faces_per_identity: faces of an identity at a visit, where it has that many.
      min_faces_per_identity: identities with fewer are not visited: their faces are random negatives alone.
      random_negatives: how many faces of the batch are drawn at random from all faces.
      seed: the run's seed.

    Raises:
      InputError: the values contradict each other, no identity has faces enough, or there are fewer faces than a batch.
    """

    def __init__(
        self,
        index: IdentityIndex,
        identities: NDArray[np.int64] | Sequence[DatasetShare] | None = None,
        *,
        size: int = 1800,
        faces_per_identity: int = 40,
        min_faces_per_identity: int = 2,
        random_negatives: int = 200,
        seed: int = 0,
    ) -> None:
        if size < 4:
            raise InputError(f"batch.size is {size}, too few for triplets: raise it to at least 4.")
        if faces_per_identity < 2:
            raise InputError(
                f"batch.faces_per_identity is {faces_per_identity}, but an anchor needs a positive: "
                "raise it to at least 2."
            )
        if min_faces_per_identity < 2:
            raise InputError(
                f"batch.min_faces_per_identity is {min_faces_per_identity}, but an anchor needs a positive: "
                "raise it to at least 2."
            )
        if not 0 <= random_negatives <= size - 2:
            raise InputError(
                f"batch.random_negatives is {random_negatives} in a batch of {size}: "
                f"choose it between 0 and batch.size - 2 = {size - 2}."
            )
        if identities is None:
            identities = np.arange(len(index.names))
        if isinstance(identities, np.ndarray):
            identities = [DatasetShare(identities, 1.0, "")]
        self.size = size
        self.anchors = size - random_negatives
        self._random_negatives = random_negatives
        self._seed = seed
        weights = [Fraction(part.weight).limit_denominator(10**6) for part in identities]
        if min(weights) <= 0:
            raise InputError("A weight in data.mixture is not above 0: leave such a dataset out.")
        visits = [
            Visits(
                index,
                part.identities,
                faces_per_identity=faces_per_identity,
                min_faces=min_faces_per_identity,
                seed=seed,
                number=number,
            )
            for number, part in enumerate(identities)
        ]
        if not any(each.given for each in visits):
            raise InputError(
                f"None of the {sum(each.identities for each in visits)} training identities has "
                f"{min_faces_per_identity} faces or more, so there is no anchor with a positive: add faces of the same "
                "people, hold out fewer identities, or lower batch.min_faces_per_identity."
            )
        faces = sum(each.faces for each in visits)
        if faces < size:
            raise InputError(
                f"The training identities have {faces} faces, fewer than one batch of {size}: "
                f"lower batch.size to at most {faces} (--config.batch.size={faces}, with a "
                "--config.batch.random_negatives below it)."
            )
        self.one_person = random_negatives == 0 and len(visits) == 1 and visits[0].fewest_given >= size
        upto = [weight / sum(weights) for weight in itertools.accumulate(weights, initial=Fraction(0))]
        self._upto = np.array(upto[1:-1], np.float64)
        self._datasets = [
            _DatasetBatches(each, size - random_negatives, *borders, part.name)
            for each, borders, part in zip(visits, itertools.pairwise(upto), identities, strict=True)
        ]
        self.batches_per_epoch = max(dataset.batches for dataset in self._datasets)

    def batch(self, step: int) -> PlannedFaces:
        """The faces of one global batch: the visits of each dataset, those of an identity together, then the negatives.

        Args:
          step: the global step, from 0.

        Returns:
          records int64 [size] and labels int32 [size].
        """
        visited = [dataset.batch(int(step)) for dataset in self._datasets]
        records = np.concatenate([faces.records for faces in visited])
        negatives = self._negatives(step, records)
        labels = np.concatenate([faces.labels for faces in [*visited, negatives]])
        return PlannedFaces(np.concatenate([records, negatives.records]), labels)

    def _negatives(self, step: int, taken: NDArray[np.int64]) -> PlannedFaces:
        # The first distinct faces of an endless keyed sequence of draws that are not taken.
        wanted = self._random_negatives
        draws = 2 * wanted
        while True:
            drawn = self._drawn(step, np.arange(draws))
            firsts = np.sort(np.unique(drawn.records, return_index=True)[1])
            firsts = firsts[~np.isin(drawn.records[firsts], taken)][:wanted]
            if len(firsts) == wanted:
                return PlannedFaces(drawn.records[firsts], drawn.labels[firsts])
            draws *= 2

    def _drawn(self, step: int, draws: NDArray[np.int64]) -> PlannedFaces:
        faces = PlannedFaces(np.empty(len(draws), np.int64), np.empty(len(draws), np.int32))
        chance = hashing.uniform(self._seed, _DATASET, step, draws)
        of = np.searchsorted(self._upto, chance, side="right")
        for number, dataset in enumerate(self._datasets):
            rows = of == number
            number_of_face = hashing.below(dataset.visits.faces, self._seed, _NEGATIVES, step, draws[rows])
            faces.records[rows], faces.labels[rows] = dataset.visits.numbered(number_of_face)
        return faces


class _DatasetBatches:
    """The visits of one dataset, cut into batches.

    Up to step t (not included) all datasets up to this one give floor(upto A t) faces, those before it
    floor(before A t); it gives the difference.
    """

    def __init__(self, visits: Visits, anchors: int, before: Fraction, upto: Fraction, name: str) -> None:
        self.visits = visits
        self._before, self._upto = before * anchors, upto * anchors
        share = self._upto - self._before
        alone = share == anchors
        if not alone and share < 2:
            raise InputError(
                f"{name} has so small a weight in data.mixture that it gives fewer than two faces of a batch: "
                "raise it, or leave the dataset out."
            )
        # Where the share is no whole number, that many consecutive batches may take two faces more than their share.
        self.batches = int((visits.given - (0 if alone else 2)) / share)
        if self.batches < 1:
            raise InputError(
                f"The training identities{name and f' of {name}'} that are visited give {visits.given} faces an "
                f"epoch at batch.faces_per_identity each or fewer, but a batch takes {float(share):.4g} of them: "
                "lower batch.size, or raise batch.faces_per_identity or batch.random_negatives (--config.batch.size, "
                "--config.batch.faces_per_identity, --config.batch.random_negatives)."
            )

    def batch(self, step: int) -> PlannedFaces:
        epoch = step // self.batches
        origin = self._upto_step(epoch * self.batches)
        return self.visits.between(epoch, self._upto_step(step) - origin, self._upto_step(step + 1) - origin)

    def _upto_step(self, step: int) -> int:
        return int(self._upto * step) - int(self._before * step)


@dataclass(frozen=True, eq=False)
class InOrder:
    """A plan of given faces, each once, in order and without labels: what is embedded.

    Attributes:
      records: int64 [faces].
      size: faces in a batch; the last one has what is left.
    """

    records: NDArray[np.int64]
    size: int

    def batch(self, step: int) -> PlannedFaces:
        """The faces of batch `step`."""
        records = self.records[step * self.size : (step + 1) * self.size]
        return PlannedFaces(records, np.zeros(len(records), np.int32))
