"""`facenet-jax export`: writes a checkpoint as ONNX or StableHLO."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from facenet_jax.commands.options import CROPS, add_command

_EPILOG = """\
The file takes uint8 RGB images [N, rows, columns, 3] as they are decoded and gives float32 embeddings [N, d] of norm 1;
scaling and normalisation are inside. FILE.json next to it is its card. To be measured like any other:
  facenet-jax evaluate holdout --embedder onnx:nn4.onnx --data PEOPLE
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    export = add_command(
        commands,
        "export",
        _export,
        help="write a checkpoint as ONNX or StableHLO, for other programs",
        description="Writes a checkpoint as one file that other programs run without this project.",
        epilog=_EPILOG,
    )
    export.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="the working directory of a run, on a disk or on gs://"
    )
    export.add_argument("--to", required=True, choices=("onnx", "stablehlo"), help="the form")
    export.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="what to write")
    export.add_argument(
        "--dtype", default="float32", choices=("float32", "float16", "int8"), help="of weights (default: float32)"
    )
    export.add_argument(
        "--flip",
        action="store_true",
        help="the file gives the mean of a face's point and its mirror image's; twice the time",
    )
    export.add_argument("--step", type=int, help="of the checkpoint (default: the best, or else the latest)")
    export.add_argument("--calibrate", type=Path, metavar="FOLDER", help="int8: faces <identity>/<image>")
    export.add_argument(
        "--crop",
        choices=CROPS,
        help="how the faces of --calibrate are cut; none: as they are (default: as those that the run was trained on; "
        "none where they were cut when they were prepared)",
    )
    export.add_argument(
        "--evaluation", type=Path, metavar="FILE", help="JSON of `evaluate --out` on this checkpoint, for the card"
    )


def _export(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.embedders.base import WITH_FLIP
    from facenet_jax.export.run import Wanted, export
    from facenet_jax.runtime.files import locate

    wanted = Wanted(
        locate(options.checkpoint),
        options.to,
        options.out,
        options.dtype,
        options.step,
        options.calibrate,
        options.crop,
        options.evaluation,
        options.flip,
    )
    card = export(wanted, lambda text: print(text, file=sys.stderr))
    with_flip = WITH_FLIP * options.flip
    shape, parity = "x".join(map(str, card["input"]["shape"][1:])), card["parity"]
    size = f"{card['bytes'] / 1e6:.1f} MB"
    print(f"written         {options.out}, {size}, {card['form']} in {card['dtype']}{with_flip}")
    print(f"                N images of {shape} uint8 -> N embeddings of {card['output']['shape'][1]} float32")
    print(f"card            {options.out}.json")
    print(
        f"parity          coordinates off by at most {parity['largest_difference']:.2g}, vectors by a squared distance "
        f"of {parity['largest_squared_distance']:.2g} ({parity['images']} images of {parity['of']})"
    )
    for rate in (card["evaluation"] or {"rates": ()})["rates"]:
        if rate["threshold"] is not None:
            limit = f"squared distance {rate['threshold']:.4f} at FAR {rate['far']:g}"
            print(f"threshold       {limit} (of the checkpoint{with_flip}, in float32)")
    return 0
