"""`facenet-jax evaluate PROTOCOL`: measures embedders."""

from __future__ import annotations

import argparse
import itertools
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facenet_jax.commands.options import CROPS, add_command, add_step
from facenet_jax.errors import InputError
from facenet_jax.evaluation import protocols

if TYPE_CHECKING:
    from facenet_jax.evaluation.request import AnyEmbedder

_EPILOG = """\
EMBEDDER is the working directory of a run, sface (a pretrained network, of the extra `align`), a file of embeddings
(.npz with the arrays embeddings and names), or onnx:PATH with what its input needs, such as
  onnx:model.onnx,size=112x112,scale=0.00784,mean=127.5,colour=bgr
  onnx:w600k_r50.onnx,preset=insightface
(presets: docs/onnx_networks.md).
Give --embedder again to compare several on the same faces. flip:EMBEDDER is the mean of a face's point and its
mirror image's; --flip measures that of each network too.
"""


class _ProtocolParser(argparse.ArgumentParser):
    """The parser of a protocol, which adds the protocol's own arguments only when it is used."""

    protocol = ""

    def complete(self) -> None:
        """Adds the arguments of the protocol."""
        if self.protocol:
            protocols.load(self.protocol).add_arguments(self)
            self.protocol = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses as argparse does, with the arguments of the protocol."""
        self.complete()
        return super().parse_known_args(args, namespace)


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure embedders by the paper's protocols",
        description="Measures any embedder on faces of people that it was not trained on.",
        allow_abbrev=False,
    )
    subparsers = evaluate.add_subparsers(
        dest="protocol", required=True, metavar="PROTOCOL", parser_class=_ProtocolParser
    )
    for name, text in protocols.PROTOCOLS.items():
        description = text[0].upper() + text[1:] + "."
        parser = add_command(subparsers, name, _run, help=text, description=description, epilog=_EPILOG)
        assert isinstance(parser, _ProtocolParser)
        parser.protocol = name
        parser.add_argument("--embedder", action="append", required=True, metavar="EMBEDDER", help="what to measure")
        add_step(parser)
        parser.add_argument(
            "--flip",
            action="store_true",
            help="measure each network with the mean of a face's point and its mirror image's too, next to its own",
        )
        parser.add_argument(
            "--crop", choices=CROPS, default="none", help="how faces are cut (default: none, as they are)"
        )
        parser.add_argument(
            "--out", type=Path, help="a folder for the results, the pictures, and embeddings as they are made"
        )
        parser.add_argument(
            "--keep-shared", action="store_true", help="keep identities that an embedder was trained on; they are named"
        )


def _run(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.datasets.open import crop_of
    from facenet_jax.datasets.walk import in_words
    from facenet_jax.embedders import is_run, network_of
    from facenet_jax.embedders.base import warn_of_crop
    from facenet_jax.evaluation.request import Request
    from facenet_jax.recognition.embeddings_file import write_rejects
    from facenet_jax.runtime.files import new_folder, write_whole
    from facenet_jax.training.run_identities import own_held_out, trained_on

    protocol = protocols.load(options.protocol)
    protocol.check(options)
    embedders = _open(options)
    if options.step is not None and not any(map(is_run, options.embedder)):
        raise InputError(f"--step={options.step} says which checkpoint of a run, and no --embedder is a run.")
    names = [embedder.name for embedder in embedders]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--embedder={name} was given twice; give each once.")
    # With --flip a network appears twice; its training identities are read once.
    networks = {id(one): one for one in map(network_of, embedders)}.values()
    written: list[Path] = []
    with ExitStack() as stack:
        if options.out:
            try:
                stack.enter_context(new_folder(options.out))
            except OSError as error:
                raise InputError(
                    f"--out={options.out} cannot be made ({error.strerror}); give another folder."
                ) from error
        request = Request(
            embedders,
            options.crop,
            options.out / "embeddings" if options.out else None,
            {network.name: trained_on(network) for network in networks},
            not options.keep_shared,
            against=_old(options) is not None,
            held_out=own_held_out,
        )
        cut = crop_of(options.data) if options.data else "none"
        for network in networks:
            # Without --data a run is measured on its own faces, which are cut as it expects.
            warn_of_crop(network, cut if options.data else getattr(network, "crop", "none"), options.crop)
        outcome = protocol.run(request, options)
        if cut != "none":
            outcome.document["prepared_crop"] = cut
        if options.out:
            file = _result_file(options.out, outcome)
            write_whole(file, json.dumps(outcome.document, indent=1, allow_nan=False) + "\n")
            rejected = options.out / f"{file.stem}_rejected.txt"
            write_rejects(rejected, list(request.rejected.items()))
            written = [file, *(draw(options.out / f"{file.stem}_{name}") for name, draw in outcome.figures.items())]
    print(f"{outcome.protocol} on {outcome.document['data']}, crop {outcome.document['crop']}")
    if request.left_out:
        done = "kept, and the figures may say little" if options.keep_shared else "left out"
        shown = ", ".join(request.left_out[:5]) + (", ..." if len(request.left_out) > 5 else "")
        print(f"{len(request.left_out):,} identities were trained on too, and are {done}: {shown}")
    if request.rejected:
        where = f"listed in {rejected}" if options.out else "--out=FOLDER lists them"
        print(f"{len(request.rejected):,} photographs were passed over; {where}")
    if request.passed_over:
        print(f"other files passed over: {in_words(request.passed_over)}")
    print(outcome.table)
    if written:
        print(f"written         {', '.join(map(str, written))}")
    return 0


def _open(options: argparse.Namespace) -> list[AnyEmbedder]:
    """The embedders that the options name; with --flip each network is followed by its mean with the mirror image."""
    from facenet_jax.embedders import FileOfEmbeddings, FlippedEmbedder, is_run, open_embedder

    embedders: list[AnyEmbedder] = []
    if _old(options) is not None:
        if options.flip or len(options.embedder) > 1:
            raise InputError(
                "--against=OLD judges one new embedder: give one --embedder, and flip:EMBEDDER in place of --flip."
            )
        embedders.append(open_embedder(options.against))
    for spec in options.embedder:
        one = open_embedder(spec, options.step if is_run(spec) else None)
        embedders.append(one)
        if options.flip and not isinstance(one, FileOfEmbeddings) and not one.flipped:
            embedders.append(FlippedEmbedder(one))
    return embedders


def _old(options: argparse.Namespace) -> str | None:
    """--against, which some protocols have."""
    return getattr(options, "against", None)


def _result_file(out: Path, outcome: Any) -> Path:
    """PROTOCOL.json, or PROTOCOL-2.json and so on if those exist and are of other faces, pairs or crops."""
    from facenet_jax.runtime.json_files import read_json

    def measured(document: dict[str, Any]) -> list[Any]:
        return [document.get(key) for key in ("data", "pairs", "crop")]

    for number in itertools.count(1):
        file = out / (f"{outcome.protocol}.json" if number == 1 else f"{outcome.protocol}-{number}.json")
        try:
            if measured(read_json(file)) == measured(outcome.document):
                break
        except (OSError, ValueError, AttributeError):  # none is there, or it is not a result
            break
    return file
