"""`facenet-jax describe`: prints a network's table."""

from __future__ import annotations

import argparse
from typing import Any

from facenet_jax.commands.options import add_command


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    describe = add_command(
        commands,
        "describe",
        _describe,
        help="print a network's table: layers, parameters, multiply-adds",
        description="Prints the table of a network, worked out from the network itself, as in Tables 1 and 2.",
    )
    describe.add_argument("network", help="nn1, nn2, nn3, nn4, nns1 or nns2")
    describe.add_argument("--input-size", type=_size, metavar="ROWSxCOLUMNS", help="pixels (default: the paper's)")
    describe.add_argument("--embedding-size", type=int, default=128, help="64 to 512 (default: 128)")
    describe.add_argument(
        "--five-by-five", metavar="WHERE", help="modules with a 5x5 branch: all, lower, none (default: the paper's)"
    )
    describe.add_argument("--members", type=int, default=1, help="networks side by side (default: %(default)s)")
    describe.add_argument(
        "--mesh",
        type=_mesh,
        metavar="data=D,fsdp=F",
        help="also print the bytes of parameters and of AdaGrad's sums on each of D x F devices",
    )


def _size(text: str) -> tuple[int, int]:
    try:
        rows, columns = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 140x116") from None
    return rows, columns


def _mesh(text: str) -> dict[str, int]:
    try:
        mesh = {"data": 1, "fsdp": 1} | {key: int(n) for key, n in (part.split("=") for part in text.split(","))}
    except ValueError:
        mesh = {}
    if set(mesh) != {"data", "fsdp"} or min(mesh.values()) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form data=4,fsdp=2")
    return mesh


def _describe(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax import models

    network = models.build(
        options.network,
        embedding_size=options.embedding_size,
        five_by_five=options.five_by_five,
        members=options.members,
    )
    size = options.input_size or models.NETWORKS[options.network].input_size
    models.check_input_size(*size)
    print(models.format_table(models.describe(network, size)))
    if options.mesh:
        print(_memory(network, size, **options.mesh))
    return 0


def _memory(network: Any, size: tuple[int, int], data: int, fsdp: int) -> str:
    from facenet_jax.config import default_config
    from facenet_jax.training.optimizer import make_optimizer
    from facenet_jax.training.state import bytes_of_state

    parameters, sums = bytes_of_state(network, size, make_optimizer(default_config()), fsdp)
    together = (parameters[0] + sums[0], parameters[1] + sums[1])
    rows = {"parameters": parameters, "AdaGrad's sums": sums, "together": together}
    return "\n".join(
        [
            f"\nbytes on each device of {data} x {fsdp} (mesh.data={data}, mesh.fsdp={fsdp}), and of one whole copy",
            *(f"{name:<16}{own:>16,}{whole:>16,}" for name, (whole, own) in rows.items()),
        ]
    )
