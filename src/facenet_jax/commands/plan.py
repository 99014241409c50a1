"""`facenet-jax plan`: predicts memory, traffic and time of a run on other chips."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from facenet_jax.commands.options import add_command, write_out
from facenet_jax.errors import InputError

_EPILOG = """\
Every value of the config can be given as --config.KEY=VALUE, for instance
  facenet-jax plan --config=nn2 --chips=256 --chip=v5e --config.model.dtype=bfloat16 --config.batch.size=16384
The step is compiled for that many devices, and neither run nor given memory. --compiler=cpu compiles for simulated CPU
devices: collectives, arithmetic and state are those of any device; temporaries and memory traffic are an estimate from
above. --compiler=tpu asks TPU's own compiler, which needs no TPU but takes minutes (make setup EXTRAS=tpu).
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    plan = add_command(
        commands,
        "plan",
        _plan,
        help="predict memory, traffic and time of a run on chips that are not here",
        description="Predicts from the compiled step what a run takes: bytes, time a step, days and chip-hours.",
        epilog=_EPILOG,
        takes_overrides=True,
    )
    plan.add_argument("--config", required=True, help="a config file, or the name of one")
    plan.add_argument("--chips", type=int, default=1, help="how many (default: 1)")
    plan.add_argument("--chip", required=True, help="v4, v5e, v5p, v6e, a100, h100, h200; cpu: this machine, measured")
    plan.add_argument(
        "--slices",
        type=int,
        default=0,
        help="TPU slices, or machines with NVLink, that they are divided into (default: as few as hold them)",
    )
    plan.add_argument(
        "--images", type=_images, help="how many are seen in training (default: the config's steps x batch)"
    )
    plan.add_argument("--compiler", default="cpu", choices=("cpu", "tpu"), help="whose program is read (default: cpu)")
    plan.add_argument("--utilisation", type=_share, help="of the peak in arithmetic (default: 0.4; cpu: 1)")
    plan.add_argument("--bandwidth-share", type=_share, help="of memory and links (default: 0.8; cpu: 1)")
    plan.add_argument("--out", type=Path, metavar="FILE", help="write the same as JSON")


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1")
    return value


def _images(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a finite number above 0")
    return value


def _plan(options: argparse.Namespace, overrides: list[str]) -> int:
    from facenet_jax.config import load_config
    from facenet_jax.planning.chips import find_chip, slices_of, topology
    from facenet_jax.planning.host import measure_host
    from facenet_jax.planning.predict import Assumptions, format_prediction, predict, prediction_to_json
    from facenet_jax.planning.program import compile_for

    if options.chips < 1:
        raise InputError(f"--chips={options.chips}: give a number from 1 up.")
    if options.slices < 0:
        raise InputError(f"--slices={options.slices}: give a number from 1 up, or leave it out.")
    here = options.chip == "cpu"
    if here and options.compiler == "tpu":
        raise InputError("--compiler=tpu compiles for TPU chips; leave it out with --chip=cpu.")
    config = load_config(options.config, overrides)
    chip = measure_host(options.chips) if here else find_chip(options.chip)
    slices = slices_of(chip, options.chips, options.slices)
    if options.slices:
        chip = replace(chip, domain=options.chips // slices)
    shape = topology(chip, options.chips, slices) if options.compiler == "tpu" else ""
    program = compile_for(options.config, overrides, options.chips, shape, slices)
    # measure_host gives rates that this machine reaches, not peaks.
    defaults = Assumptions(1.0, 1.0) if here else Assumptions()
    assumptions = Assumptions(
        options.utilisation or defaults.utilisation, options.bandwidth_share or defaults.bandwidth_share
    )
    images = float(config.steps * config.batch.size) if options.images is None else options.images
    prediction = predict(program, chip, assumptions)
    print(format_prediction(prediction, images))
    if options.out:
        write_out(options.out, json.dumps(prediction_to_json(prediction, images), indent=1) + "\n", "--out")
    return 0
