"""Opens the faces that a config names: those to train on, and those held out for evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from facenet_jax.config import datasets_of, flatten, smaller_batch
from facenet_jax.datasets.drawn import DrawnFaces
from facenet_jax.datasets.exclude import Named, WithoutFaces, find_named, read_list
from facenet_jax.datasets.index import split_holdout
from facenet_jax.datasets.mixture import MixedSource, sources_of
from facenet_jax.datasets.open import open_dataset, open_training
from facenet_jax.datasets.source import FaceSource, ListedFaces
from facenet_jax.datasets.walk import in_words, some
from facenet_jax.errors import InputError
from facenet_jax.evaluation.holdout import MIN_IDENTITIES_PER_SPLIT
from facenet_jax.input.plan import BatchPlan, DatasetShare
from facenet_jax.training.leakage import shared_faces, shared_names

# Drawn people from this number on are held out, so that no number of training identities reaches them.
_FIRST_HELD_OUT = 1_000_000_000
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class HeldOutFaces:
    """Faces of identities that are not trained on, to evaluate on.

    Attributes:
      source: where they come from.
      records: int64, those that are evaluated.
      name: what they are, for titles.
    """

    source: FaceSource
    records: NDArray[np.int64]
    name: str

    @property
    def digest(self) -> str:
        """A fingerprint of which faces these are."""
        return _digest(self.source, self.records)

    @property
    def identities(self) -> int:
        """How many people they show."""
        return len(np.unique(self.source.index.identity_of(self.records)))


@dataclass(frozen=True)
class TrainingFaces:
    """Training and held-out faces.

    Attributes:
      train: the source of training faces.
      parts: the identities of `train` that are trained on, with the weight of their dataset.
      held_out: faces of others.
      shared_names: how many held-out identities have the name of a training identity of another folder.
      shared_faces: how many held-out faces are, by their bytes or looks, pictures of a training identity; counted for
        prepared datasets, whose digests are at hand.
      remarks: what else a person should know, a line each.
    """

    train: FaceSource
    parts: tuple[DatasetShare, ...]
    held_out: HeldOutFaces
    shared_names: int = 0
    shared_faces: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def train_identities(self) -> NDArray[np.int64]:
        """int64, ascending, the identities of `train` that are trained on."""
        return np.concatenate([part.identities for part in self.parts])

    @property
    def digest(self) -> str:
        """A fingerprint of which faces are trained on."""
        return _digest(self.train, self.train_identities)

    @property
    def digests(self) -> dict[str, str]:
        """Both fingerprints, as run.json keeps them."""
        return {"train": self.digest, "held_out": self.held_out.digest}

    def describe(self) -> str:
        """Lines for the screen."""
        counts = self.train.index.counts[self.train_identities]
        drawn = isinstance(self.train, DrawnFaces)
        kind = "drawn faces (made up by a program, of nobody)" if drawn else "faces"
        text = (
            f"training on     {int(counts.sum()):,} {kind} of {len(counts):,} identities, "
            f"{int(np.count_nonzero(counts >= 2)):,} of them with two or more\n"
            f"evaluating on   {len(self.held_out.records):,} faces of {self.held_out.identities:,} other identities "
            f"({self.held_out.name})"
        )
        if len(self.parts) > 1:
            whole = sum(part.weight for part in self.parts)
            for part in self.parts:
                faces = int(self.train.index.counts[part.identities].sum())
                text += (
                    f"\n  {part.weight / whole:.1%} of a batch: {part.name}, {faces:,} faces of "
                    f"{len(part.identities):,} identities"
                )
        for remark in self.remarks:
            text += f"\n{remark}"
        if self.shared_names:
            text += (
                f"\nwarning: {self.shared_names:,} identities of config.eval.path have names that are trained on "
                "too; if they are the same people, the figures say nothing about new ones"
            )
        if self.shared_faces:
            text += (
                f"\nwarning: {self.shared_faces:,} evaluated faces are pictures that are trained on, by their bytes or "
                "looks; the figures flatter the network (facenet-jax overlap lists what two datasets share)"
            )
        return text


def open_faces(config: ConfigDict) -> TrainingFaces:
    """Opens what `data.path` or `data.mixture` and `eval.path` name, without those that `data` leaves out.

    Identities are held out before any are left out by `data.exclude` or `data.min_faces`, so that those two do not
    change which others are held out. Excluded identities and faces are neither trained on nor evaluated; identities
    with fewer faces than `data.min_faces` are not trained on, not even as negatives.

    Raises:
      InputError: a folder is missing, empty, or holds too little; no identity is left to hold out; both are the same.
    """
    paths = datasets_of(config)
    _check_different([path for path, _ in paths])
    whole = open_training([path for path, _ in paths], config.data.drawn)
    remarks = []
    if whole.ignored:
        remarks.append(f"passed over     {whole.ignored:,} files that are not images in an identity's folder")
    for source in sources_of(whole):
        if isinstance(source, ListedFaces) and source.passed_over:
            remarks.append(f"                in {source.root}: {in_words(source.passed_over)}")
        if isinstance(source, ListedFaces) and source.without_images:
            remarks.append(f"no images of    {some(source.without_images)} in {source.root}")
    excluded, train = _NONE, whole
    if config.data.exclude:
        option = "config.data.exclude"
        named = find_named(whole, read_list(config.data.exclude, option), f"{option}={config.data.exclude}")
        remarks.append(_left_out(named, config.data.exclude))
        excluded = named.identities
        train = WithoutFaces(whole, named.records) if len(named.records) else whole

    everyone = np.arange(len(whole.index.names), dtype=np.int64)
    limit = config.eval.max_faces_per_identity
    if config.eval.path:
        trained_on, held_out = everyone, open_held_out(config.eval.path, limit)
        if held_out.source.digest in {source.digest for source in sources_of(whole)}:
            raise InputError(
                f"config.eval.path={config.eval.path} holds the very faces that are trained on; give a folder of other "
                "people, or leave it empty to have a share of config.data.path held out."
            )
    elif isinstance(whole, DrawnFaces):
        others = DrawnFaces(whole.seed, config.eval.drawn_identities, limit, first=_FIRST_HELD_OUT)
        trained_on, held_out = everyone, _held_out(others, limit, "drawn people held out")
    else:
        trained_on, identities = split_holdout(whole.index, config.eval.holdout)
        where = " and ".join(path for path, _ in paths)
        if not len(identities):
            raise InputError(
                f"{where} has too few identities with two faces to hold any out for evaluation; "
                "add people, or give another folder as config.eval.path."
            )
        name = f"{config.eval.holdout:.0%} of {where}, held out"
        held_out = _held_out(train, limit, name, np.setdiff1d(identities, excluded))
        if held_out.identities < 2 * MIN_IDENTITIES_PER_SPLIT:
            remarks.append(
                f"few held out    {held_out.identities} people: figures of the run are rough; --config.eval.holdout "
                f"(now {config.eval.holdout:g}) holds out more, or give other people as --config.eval.path"
            )

    left_out = train.index.counts < config.data.min_faces
    few = int(np.count_nonzero(left_out[trained_on]))
    if few:
        remarks.append(f"left out        {few:,} identities with fewer than {config.data.min_faces} faces")
    left_out[excluded] = True
    trained_on = trained_on[~left_out[trained_on]]
    if not len(trained_on):
        raise InputError(
            "config.data.min_faces and config.data.exclude leave nobody to train on: lower or shorten them."
        )
    if len(trained_on) == 1:
        own = config.eval.path or isinstance(whole, DrawnFaces)
        held = "" if own else f" ({held_out.identities} are held out; with other people as config.eval.path none is)"
        raise InputError(
            f"{train.index.names[trained_on[0]]} alone is left to train on, without anybody to compare with, and "
            f"every gradient would be 0: add people, or lower config.data.min_faces{held}."
        )
    borders = whole.borders[1:-1] if isinstance(whole, MixedSource) else []
    of_each = np.split(trained_on, np.searchsorted(trained_on, borders))
    parts = tuple(DatasetShare(each, weight, path) for each, (path, weight) in zip(of_each, paths, strict=True))
    names = shared_names(train, trained_on, held_out.source) if config.eval.path else 0
    pictures = shared_faces(train, trained_on, held_out.source, held_out.records)
    return TrainingFaces(train, parts, held_out, names, pictures, tuple(remarks))


def _check_different(paths: Sequence[str]) -> None:
    """Raises InputError where two datasets of a mixture are one place: everybody in it would be two people."""
    seen: dict[Path, str] = {}
    for path in paths:
        if (other := seen.setdefault(Path(path).resolve(), path)) != path:
            raise InputError(
                f"config.data.mixture names one place as {other} and as {path}, and everybody in it would be two "
                "people: give it once, with both weights together."
            )


def online_plan(config: ConfigDict, faces: TrainingFaces, size: int) -> BatchPlan:
    """Which faces make up the batches from which triplets are selected online (section 3.2).

    Args:
      config: of the run.
      faces: trained on.
      size: faces in a batch, or in what of it no table of hard faces fills.

    Raises:
      InputError: such batches can't be had of these faces, or each would show one person alone.
    """
    plan = BatchPlan(
        faces.train.index,
        faces.parts,
        size=size,
        faces_per_identity=config.batch.faces_per_identity,
        min_faces_per_identity=config.batch.min_faces_per_identity,
        random_negatives=config.batch.random_negatives,
        seed=config.seed,
    )
    if plan.one_person and size == config.batch.size:
        raise InputError(
            f"Every batch of {size} faces would show one person alone, without anybody to compare with, and every "
            f"gradient would be 0: lower config.batch.faces_per_identity ({config.batch.faces_per_identity}), raise "
            "config.batch.size, or draw others with --config.batch.random_negatives."
        )
    return plan


def fit_batch(config: ConfigDict, faces: TrainingFaces) -> tuple[ConfigDict, TrainingFaces]:
    """The config with the largest batch that the faces fill, and the faces with a remark about it.

    Nothing changes where they fill the config's own, or too few are left for any (`BatchPlan` says why). A smaller
    batch keeps the share of its random negatives.
    """
    size, negatives = config.batch.size, config.batch.random_negatives
    whole = sum(Fraction(part.weight).limit_denominator(10**6) for part in faces.parts)
    fits, anchors = 0, []
    for part in faces.parts:
        counts = faces.train.index.counts[part.identities]
        visited = counts[counts >= config.batch.min_faces_per_identity]
        given = int(np.minimum(visited, config.batch.faces_per_identity).sum())
        share = Fraction(part.weight).limit_denominator(10**6) / whole
        anchors.append(int((given - (0 if share == 1 else 2)) / share))  # see BatchPlan
        fits += int(counts.sum())
    fits = min(fits, min(anchors) * size // (size - negatives))
    if not 4 <= fits < size:
        return config, faces
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(smaller_batch(flatten(config), fits))
    remark = (
        f"batch           of {fits:,} faces, {config.batch.random_negatives:,} of them random negatives, which is what "
        f"these people fill; the config has {size:,} and {negatives:,} (--config.batch.size and "
        "--config.batch.random_negatives set it)"
    )
    return config, replace(faces, remarks=(*faces.remarks, remark))


def _left_out(named: Named, path: str) -> str:
    """A line for the screen about what a list leaves out."""
    faces = f" and {len(named.records):,} faces" if len(named.records) else ""
    remark = f"left out        {len(named.identities):,} identities{faces} that {path} names"
    if named.unknown:
        remark += f"; {len(named.unknown):,} of its names match no identity or face, such as {named.some_unknown()}"
    return remark


def open_held_out(path: str, max_faces_per_identity: int) -> HeldOutFaces:
    """A dataset to evaluate on, with a maximal number of faces of an identity.

    Raises:
      InputError: it is missing or empty, or fewer than two identities have two faces.
    """
    return _held_out(open_dataset(Path(path)), max_faces_per_identity, path)


def _held_out(source: FaceSource, limit: int, name: str, identities: NDArray[np.int64] | None = None) -> HeldOutFaces:
    """Those of the identities (None: all) that have two faces or more, with at most `limit` faces each."""
    index = source.index
    chosen = np.flatnonzero(index.counts >= 2)
    if identities is not None:
        chosen = np.intersect1d(chosen, identities)
    if len(chosen) < 2:
        raise InputError(f"{name}: fewer than two identities have two faces, too few to measure on; add people.")
    records = index.records_of(chosen)
    place_within = records - np.repeat(index.offsets[chosen], index.counts[chosen])
    return HeldOutFaces(source, records[place_within < limit], name)


def _digest(source: FaceSource, chosen: NDArray[np.int64]) -> str:
    return hashlib.blake2b(source.digest.encode() + chosen.tobytes(), digest_size=16).hexdigest()
