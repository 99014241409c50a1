"""Protocol of section 5.3 and Table 4: VAL of faces degraded by JPEG compression and by low resolution."""

from __future__ import annotations

import argparse
import io
import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.embedders.engine import check_network
from facenet_jax.errors import InputError
from facenet_jax.evaluation.holdout import holdout
from facenet_jax.evaluation.paper import IMAGE_SIZES, JPEG_QUALITIES
from facenet_jax.evaluation.plots import quality_figure
from facenet_jax.evaluation.protocols.common import Report, add_folder
from facenet_jax.evaluation.request import Outcome, Request, prepared_folder
from facenet_jax.evaluation.verification import check_fars
from facenet_jax.images.cut import Alteration, FaceCutter

# The longest side of an image before it is degraded: that of the largest in the grid.
_FULL_SIDE = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --data and --far."""
    add_folder(parser)
    parser.add_argument("--far", type=float, default=1e-3, help="false accept rate (default: 0.001)")


def check(options: argparse.Namespace) -> None:
    """Raises InputError for a rate out of range."""
    check_fars([options.far])


def run(request: Request, options: argparse.Namespace) -> Outcome:
    """VAL on the first split of the hold-out, at each quality and size."""
    folder = prepared_folder(request, options.data)
    far, series = options.far, {}
    for embedder in request.embedders:
        check_network(embedder)
    # The pairs do not depend on the points, so they are checked before all faces are embedded eleven times.
    first = holdout(np.eye(1, 2, dtype=np.float32).repeat(len(folder.labels), 0), folder.labels, [far]).splits[0]
    if first.points[0].pairs_needed > first.different_pairs:
        raise InputError(
            f"The first split of {folder.root} has {first.different_pairs:,} pairs of different people, and "
            f"--far={far:g} needs {first.points[0].pairs_needed:,}; give a larger --far, or more people."
        )
    report = Report()
    for embedder in request.embedders:
        rows: dict[str, dict[int, Any]] = {"jpeg_quality": {}, "image_pixels": {}}
        for kind, grid, alter in (
            ("jpeg_quality", JPEG_QUALITIES, recompress),
            ("image_pixels", IMAGE_SIZES, shrink),
        ):
            for value in grid:
                worse = Alteration(f"{kind}={value}", partial(alter, value), _FULL_SIDE)
                one = request.embed(embedder, folder.images, FaceCutter(request.crop, alteration=worse))
                first = holdout(one.points, folder.labels[one.usable], [far]).splits[0]
                rows[kind][value] = {
                    "val": first.points[0].val,
                    "pairs_needed": first.points[0].pairs_needed,
                    "same_pairs": first.same_pairs,
                    "different_pairs": first.different_pairs,
                    "paper": grid[value] / 100,
                }
        series[embedder.name] = rows
        table = f"{embedder.name}\n{_format_quality(rows, far)}"
        report.add(table, embedder, request.crop, None, {"far": far} | rows)
    figures = {"quality.png": partial(quality_figure, series, far)}
    return report.outcome("robustness", request, str(folder.root), figures=figures, counts_pairs=True)


def recompress(quality: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image after JPEG compression at a quality from 1 to 95; uint8 [rows, columns, 3]."""
    if not 1 <= quality <= 95:
        raise InputError(f"A JPEG quality of {quality} is out of range; choose from 1 to 95.")
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file).convert("RGB"))


def shrink(pixels: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image as a square of a number of pixels, or as it is where it has fewer; uint8 [rows, columns, 3]."""
    side = math.isqrt(pixels)
    if side < 1:
        raise InputError(f"An image cannot have {pixels} pixels; choose at least one.")
    if min(image.shape[:2]) <= side:
        return image
    rows, columns = image.shape[:2]
    square = min(rows, columns)
    left, top = (columns - square) / 2, (rows - square) / 2
    box = (left, top, left + square, top + square)
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS, box=box)
    return np.array(resized)


def _format_quality(rows: dict[str, dict[int, Any]], far: float) -> str:
    lines = [f"  VAL at FAR {far:g} on the first split of the hold-out; in brackets the paper's for NN1"]
    for kind, name in (("jpeg_quality", "JPEG quality"), ("image_pixels", "pixels")):
        for value, row in rows[kind].items():
            said = "unresolved" if row["val"] is None else f"{100 * row['val']:.1f}%"
            if row["val"] is None:
                said += f": needs {row['pairs_needed']:,} different pairs, has {row['different_pairs']:,}"
            lines.append(f"  {f'{name} {value:,}':<20}{said:<9} ({100 * row['paper']:.1f}%)")
    return "\n".join(lines)
