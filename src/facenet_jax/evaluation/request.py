"""Defines the input and the outcome of a protocol: embedders and images in, a table and a document out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax import models
from facenet_jax.config import flatten, network_title
from facenet_jax.datasets.names import comparable
from facenet_jax.embedders import CheckpointEmbedder, FileOfEmbeddings, Network, network_of
from facenet_jax.embedders.engine import EmbeddedFaces, Images, embed_images
from facenet_jax.embedders.labelled_images import LabelledImages, open_labelled, without
from facenet_jax.errors import InputError
from facenet_jax.evaluation.against import Against
from facenet_jax.evaluation.bootstrap import Comparison
from facenet_jax.images.crop import Crop
from facenet_jax.images.cut import FaceCutter
from facenet_jax.runtime.progress import Progress

AnyEmbedder = Network | FileOfEmbeddings


def _none_held_out(_: Request) -> LabelledImages:
    raise InputError("--data is needed: the faces that a run held out are not known here.")


@dataclass
class Request:
    """The embedders to measure, and how they embed images.

    Attributes:
      embedders: those to measure, on the same images.
      crop: how images are cut.
      keep: where embeddings are kept as they are made.
      trained_on: for each embedder's name, the identities that it was trained on, where that is known.
      leave_out: whether identities that an embedder was trained on are left out for all.
      left_out: names that were left out, filled in as the protocol runs.
      rejected: photograph -> why it gave no face, filled in as the protocol runs.
      passed_over: how many other files the folders have, by suffix or reason, filled in as the protocol runs.
      against: whether the embedders are an old and a new one, and the new is judged against the old too.
      held_out: opens the faces that the embedder's own run held out.
    """

    embedders: Sequence[AnyEmbedder]
    crop: Crop = "none"
    keep: Path | None = None
    trained_on: Mapping[str, frozenset[str]] = field(default_factory=dict)
    leave_out: bool = True
    left_out: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)
    against: bool = False
    held_out: Callable[[Request], LabelledImages] = field(default=_none_held_out)

    def embed(self, embedder: AnyEmbedder, images: Images, cutter: FaceCutter | None = None) -> EmbeddedFaces:
        """One face of each image, cut as asked.

        Raises:
          InputError: as for `embed_images`, or not one of the images can be used.
        """
        faces = embed_images(embedder, images, cutter or FaceCutter(self.crop), self.keep, Progress())
        self.rejected |= dict(faces.rejected)
        faces.check_any()
        return faces

    def known_names(self, names: Sequence[str]) -> set[str]:
        """Those of these identities that an embedder was trained on; also adds them to `left_out`."""
        trained_on = set(map(comparable, set().union(*self.trained_on.values())))
        known = {name for name in names if comparable(name) in trained_on}
        if known:
            self.left_out = sorted({*self.left_out, *known})
        return known


@dataclass(frozen=True)
class Outcome:
    """The result of a protocol.

    Attributes:
      protocol: its name.
      table: for the screen.
      document: for machines; plain numbers, strings, lists and None.
      figures: file name -> what draws it to a path.
    """

    protocol: str
    table: str
    document: dict[str, Any]
    figures: Mapping[str, Callable[[Path], Path]] = field(default_factory=dict)


def prepared_folder(request: Request, path: Path) -> LabelledImages:
    """Opens a folder, without the identities that were trained on unless the request keeps them."""
    folder = open_labelled(path)
    request.passed_over.update(folder.passed_over)
    return leave_out_known(request, folder)


def leave_out_known(request: Request, folder: LabelledImages) -> LabelledImages:
    """The folder without the identities that were trained on, unless the request keeps them; `left_out` names them."""
    known = request.known_names(np.unique(folder.labels).tolist())
    return without(folder, known) if known and request.leave_out else folder


def common(embedded: Sequence[EmbeddedFaces]) -> NDArray[np.intp]:
    """The images that every embedder could use."""
    return np.flatnonzero(np.logical_and.reduce([one.usable for one in embedded]))


def about(embedder: AnyEmbedder | Against, crop: Crop, embedded: EmbeddedFaces | None = None) -> dict[str, Any]:
    """The entry of a document about an embedder, and about how the faces that it was judged on were cut."""
    if isinstance(embedder, Against):
        of_new = about(embedder.new, crop, embedded)
        of_new.pop("flip_of", None)
        names = {"new": embedder.new.name, "old": embedder.old.name}
        return of_new | {"name": embedder.name, "digest": embedder.digest, "remarks": [], "against": names}
    said: dict[str, Any] = {
        "name": embedder.name,
        "digest": embedder.digest,
        "crop": crop,
        "remarks": list(embedder.remarks),
    }
    if isinstance(embedder, FileOfEmbeddings):
        said |= {"kind": "file", "embedding_size": int(embedder.points.shape[1])}
    else:
        said |= {"input_size": list(embedder.size), "kind": "onnx"}
    one = network_of(embedder)
    if isinstance(one, CheckpointEmbedder):
        said |= {"kind": "run", "workdir": str(one.workdir), "step": one.step} | network(one)
        said["training"] = dict(one.training)
    if embedder is not one:
        said["flip_of"] = one.name
        if "multiply_adds" in said:
            said["multiply_adds"] *= 2  # the mirror image takes the same number
    if embedded is not None:
        said["bad"] = [list(one) for one in embedded.rejected]
        said["no_face_found"] = int(embedded.fallback.sum())
        said["embedding_size"] = int(embedded.points.shape[1])
    return said


def network(embedder: CheckpointEmbedder) -> dict[str, Any]:
    """A run's network and config, with the parameters and multiply-adds of its network."""
    parameters, multiply_adds = models.totals(embedder.network, embedder.size)
    config = {
        key: list(value) if isinstance(value, tuple) else value for key, value in flatten(embedder.config).items()
    }
    return {
        "network": network_title(config),
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "config": config,
    }


def as_documents(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Comparisons as plain values."""
    return [asdict(comparison) for comparison in comparisons]


def format_comparisons(comparisons: Sequence[Comparison]) -> str:
    """Comparisons as lines of text for people."""
    lines = []
    for one in comparisons:
        ends = "" if one.low is None or one.high is None else f" (95 %: {100 * one.low:+.1f} to {100 * one.high:+.1f})"
        lines.append(
            f"{one.what}: {one.second} against {one.first} {100 * one.difference:+.2f} points{ends}, p = {one.p:.3g} "
            f"({one.test})"
        )
    return "\n".join(lines)


def heading(embedder: AnyEmbedder | Against, embedded: EmbeddedFaces) -> str:
    """The lines above an embedder's table: its name, images without a face, and its remarks."""
    lines = [embedder.name]
    if isinstance(embedder, Against):
        return f"{embedder.name}\n  in each pair one face is embedded by the first, the other by the second"
    if bad := embedded.rejected:
        first = ", ".join(f"{key} ({reason})" for key, reason in bad[:3])
        lines.append(f"  {len(bad):,} images left out: {first}{', ...' if len(bad) > 3 else ''}")
    if centred := int(embedded.fallback.sum()):
        lines.append(f"  no face found in {centred:,} images: their centre was taken")
    lines += [f"  {remark}" for remark in embedder.remarks]
    return "\n".join(lines)
