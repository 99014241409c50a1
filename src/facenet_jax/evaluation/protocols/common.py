"""Code that protocols share: arguments, embedding a folder with all embedders, comparisons, the outcome."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.engine import EmbeddedFaces
from facenet_jax.embedders.labelled_images import LabelledImages
from facenet_jax.errors import InputError
from facenet_jax.evaluation.against import Against
from facenet_jax.evaluation.bootstrap import Comparison, compare_replicates
from facenet_jax.evaluation.counting import counted_on
from facenet_jax.evaluation.labelled_pairs import WrongPairs
from facenet_jax.evaluation.pair_metrics import PairMetrics
from facenet_jax.evaluation.plots import Curves, curves_figure, histogram_figure
from facenet_jax.evaluation.request import (
    AnyEmbedder,
    Outcome,
    Request,
    about,
    as_documents,
    common,
    format_comparisons,
)
from facenet_jax.evaluation.verification import check_fars


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Adds --data, a folder of faces."""
    parser.add_argument("--data", type=Path, required=True, help="a folder <identity>/<image>")


def add_fars(parser: argparse.ArgumentParser) -> None:
    """Adds --far, one or several."""
    parser.add_argument(
        "--far",
        dest="fars",
        type=float,
        nargs="+",
        default=[1e-2, 1e-3],
        help="false accept rates (default: 0.01 0.001)",
    )


def check_fars_asked(options: argparse.Namespace) -> None:
    """Raises InputError where a --far of `add_fars` is out of range."""
    check_fars(options.fars)


def added(asked: Sequence[float], fars: Sequence[float]) -> float | None:
    """The FAR that `resolved_fars` or `with_smallest` added to those asked; None if none was added."""
    return None if len(fars) == len(asked) else fars[-1]


def add_against(parser: argparse.ArgumentParser) -> None:
    """Adds --against."""
    parser.add_argument(
        "--against",
        metavar="OLD",
        help="an older embedder: it is measured alone, then --embedder against its points, then --embedder alone",
    )


class Judged(NamedTuple):
    """The points that one row of a table judges.

    Attributes:
      embedder: which.
      embedded: its result for all images.
      points: float32 [faces, d], of the faces that every embedder could use.
      known: the points that these are compared with, of the same faces: the same array, or an old embedder's.
    """

    embedder: AnyEmbedder | Against
    embedded: EmbeddedFaces
    points: NDArray[np.float32]
    known: NDArray[np.float32]


@dataclass(frozen=True)
class CommonFaces:
    """Faces of a folder that every embedder could use.

    Attributes:
      keys: the name of each.
      labels: the identity's name of each.
      by_embedder: the points of these by each embedder; where an old and a new one are judged, the old, the new against
        the old, the new.
    """

    keys: list[str]
    labels: NDArray[np.str_]
    by_embedder: list[Judged]


def embed_faces(request: Request, folder: LabelledImages) -> CommonFaces:
    """Embeds a folder's faces by all embedders."""
    embedded = [request.embed(embedder, folder.images) for embedder in request.embedders]
    chosen = common(embedded)
    judged = []
    for embedder, one in zip(request.embedders, embedded, strict=True):
        points = one.points_of(chosen)
        judged.append(Judged(embedder, one, points, points))
    if request.against:
        old, new = request.embedders
        both = Against(new, old)
        both.check_sizes(judged[1].points.shape[1], judged[0].points.shape[1])
        judged.insert(1, Judged(both, judged[1].embedded, judged[1].points, judged[0].points))
    return CommonFaces([folder.images.keys[i] for i in chosen], folder.labels[chosen], judged)


class Report:
    """Collects the table and the document of each embedder."""

    def __init__(self) -> None:
        """Starts empty."""
        self._tables: list[str] = []
        self._entries: list[dict[str, Any]] = []

    def add(
        self,
        table: str,
        embedder: AnyEmbedder | Against,
        crop: Any,
        embedded: EmbeddedFaces | None,
        result: Mapping[str, Any],
    ) -> None:
        """Adds an embedder's table and result; crop and embedded as for `about`."""
        self._tables.append(table)
        self._entries.append(about(embedder, crop, embedded) | {"result": dict(result)})

    def outcome(
        self,
        protocol: str,
        request: Request,
        data: str,
        *,
        pairs: str | None = None,
        crop: str | None = None,
        comparisons: Sequence[Comparison] = (),
        figures: Mapping[str, Any] | None = None,
        counts_pairs: bool = False,
    ) -> Outcome:
        """The outcome of all embedders that were added.

        Args:
          protocol: its name.
          request: what was asked.
          data: where the faces are.
          pairs: where the list of pairs is; None without one.
          crop: the crop, where it is not the request's.
          comparisons: of the embedders.
          figures: file name -> what draws it to a path.
          counts_pairs: whether all pairs were counted, so that the outcome names the devices that counted them.
        """
        if not self._entries:
            raise InputError("No embedder was given; give at least one --embedder.")
        texts = [*self._tables, *([format_comparisons(comparisons)] if comparisons else [])]
        where = counted_on() if counts_pairs else ""
        if where not in ("", "cpu"):
            texts.insert(0, f"pairs counted on {where}")
        document = {
            "protocol": protocol,
            "data": data,
            **({} if pairs is None else {"pairs": pairs}),
            "crop": request.crop if crop is None else crop,
            "left_out": request.left_out if request.leave_out else [],
            "shared_and_kept": [] if request.leave_out else request.left_out,
            "embedders": self._entries,
            "comparisons": as_documents(comparisons),
            **({"counted_on": where} if where else {}),
        }
        return Outcome(protocol, "\n\n".join(texts), document, figures or {})


def metrics_figures(metrics: Mapping[str, PairMetrics], title: str) -> dict[str, Any]:
    """ROC curves of all embedders, and each one's histogram of distances."""
    curves: Curves = {name: [(one.curve.far, one.curve.val)] for name, one in metrics.items()}
    first = next(iter(metrics.values()))
    pairs = f"{first.same_pairs:,} same and {first.different_pairs:,} different pairs"
    figures: dict[str, Any] = {"roc.png": partial(curves_figure, curves, f"{title}\n{pairs}")}
    for number, (name, one) in enumerate(metrics.items(), 1):
        file = "distances.png" if len(metrics) == 1 else f"distances_{number}.png"
        figures[file] = partial(
            histogram_figure,
            one.same_histogram,
            one.different_histogram,
            [(point.far, point.threshold) for point in one.points if point.threshold is not None],
            name,
        )
    return figures


def compare_metrics(metrics: Mapping[str, PairMetrics], fars: Sequence[float]) -> list[Comparison]:
    """Compares every later embedder with the first, by the paired bootstrap."""
    return compare_vals(
        [(name, [point.val for point in one.points], one.replicates) for name, one in metrics.items()], fars
    )


def compare_vals(
    rates: Sequence[tuple[str, Sequence[float | None], NDArray[np.float64] | None]], fars: Sequence[float]
) -> list[Comparison]:
    """As `compare_metrics`, of (name, VAL at each FAR, VAL in each replicate)."""
    comparisons = []
    first_name, first_vals, first_replicates = rates[0]
    for name, vals, replicates in rates[1:]:
        if first_replicates is None or replicates is None:
            continue
        for place, far in enumerate(fars):
            before, after = first_vals[place], vals[place]
            if before is not None and after is not None:
                comparisons.append(
                    compare_replicates(
                        (first_name, before, first_replicates[:, place]),
                        (name, after, replicates[:, place]),
                        f"VAL at FAR {far:g}",
                    )
                )
    return comparisons


def wrong_to_json(wrong: WrongPairs, keys: Sequence[str], labels: NDArray[np.str_]) -> dict[str, Any]:
    """Wrong pairs with the names of their images, and of the people in them."""
    names = np.unique(labels)
    return {
        "false_accepts": [[keys[i], keys[j], round(d, 6)] for i, j, d in wrong.accepts],
        "false_rejects": [[keys[i], keys[j], round(d, 6)] for i, j, d in wrong.rejects],
        "worst_identities": [
            {"name": str(names[i]), "same_pairs": total, "rejected": missed, "false_accepts": confused}
            for i, total, missed, confused in wrong.people
        ],
    }
