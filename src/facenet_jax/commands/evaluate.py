"""`facenet-jax evaluate PROTOCOL`."""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from facenet_jax.commands.setup import CROPS, check_threshold
from facenet_jax.errors import InputError
from facenet_jax.runtime.files import write_whole

_EPILOG = """\
EMBEDDER is the working directory of a run, sface (the yardstick, of the extra `align`), a file of embeddings (.npz with
the arrays embeddings and names), or onnx:PATH with what its input needs, such as
  onnx:model.onnx,size=112x112,scale=0.00784,mean=127.5,colour=bgr
Give --embedder again to compare several on the same faces.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure embedders by the paper's protocols",
        description="Measures any embedder on faces of people that it was not trained on.",
        allow_abbrev=False,
    )
    protocols = evaluate.add_subparsers(dest="protocol", required=True, metavar="PROTOCOL")

    holdout = _protocol(protocols, "holdout", "VAL at a FAR over splits of identities (section 4.1)")
    holdout.add_argument(
        "--data", type=Path, help="a folder <identity>/<image> (default: the run's own held-out faces)"
    )
    holdout.add_argument("--splits", type=int, default=5, help="of the identities (default: 5, as in the paper)")
    _fars(holdout)
    photos = _protocol(protocols, "photos", "all squared pairs of a folder of photographs (section 4.2)")
    _folder(photos)
    _fars(photos)
    lfw = _protocol(protocols, "lfw", "Labelled Faces in the Wild, view 1 or 2 (section 5.6)")
    lfw.add_argument("--data", type=Path, required=True, help="LFW as it is unpacked: Name/Name_0001.jpg")
    lfw.add_argument("--pairs", type=Path, required=True, help="pairs.txt, or pairsDevTest.txt for view 1")
    lfw.add_argument("--threshold-pairs", type=Path, help="view 1: pairsDevTrain.txt, whose best threshold is used")
    lfw.add_argument("--threshold-data", type=Path, help="the images of those (default: --data)")
    lfw.add_argument("--threshold-crop", choices=CROPS, help="how those are cut (default: --crop)")
    _fars(lfw)
    pairs = _protocol(protocols, "pairs", "a .bin verification file of the field: lfw, cfp_fp, agedb_30, ...")
    pairs.add_argument("--data", type=Path, required=True, help="the .bin file")
    _fars(pairs)
    ytf = _protocol(protocols, "ytf", "YouTube Faces (section 5.7)")
    ytf.add_argument("--data", type=Path, required=True, help="the folder of frames: Name/number/frame.jpg")
    ytf.add_argument("--pairs", type=Path, required=True, help="the official splits.txt")
    ytf.add_argument("--frames", type=int, default=100, help="with a face, of each video (default: 100)")
    _fars(ytf)
    robustness = _protocol(protocols, "robustness", "VAL against JPEG quality and image size (Table 4)")
    _folder(robustness)
    robustness.add_argument("--far", type=float, default=1e-3, help="false accept rate (default: 0.001)")
    compact = _protocol(protocols, "compact", "float32 against one byte a coordinate; several sizes (Table 5)")
    _folder(compact)
    _fars(compact)
    identify = _protocol(protocols, "identify", "rank-1 and open-set identification")
    _folder(identify)
    identify.add_argument(
        "--false-alarms", type=float, nargs="+", default=[0.1, 0.01], help="rates (default: 0.1 0.01)"
    )
    cluster = _protocol(protocols, "cluster", "agglomerative clustering: B-cubed and pairwise F (section 5.8)")
    _folder(cluster)
    cluster.add_argument("--threshold", type=float, help="squared distance (default: the best on half of the people)")


def _protocol(protocols: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = protocols.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--embedder", action="append", required=True, metavar="EMBEDDER", help="what to measure")
    parser.add_argument("--step", type=int, help="of a run's checkpoint (default: the best, or else the latest)")
    parser.add_argument("--crop", choices=CROPS, default="none", help="how faces are cut (default: none, as they are)")
    parser.add_argument(
        "--out", type=Path, help="a folder for the results, the pictures, and embeddings as they are made"
    )
    parser.add_argument(
        "--keep-shared", action="store_true", help="keep identities that an embedder was trained on; they are named"
    )
    parser.set_defaults(run=_run)
    return parser


def _folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="a folder <identity>/<image>")


def _fars(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--far",
        dest="fars",
        type=float,
        nargs="+",
        default=[1e-2, 1e-3],
        help="false accept rates (default: 0.01 0.001)",
    )


def _run(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.embedders import open_embedder
    from facenet_jax.evaluation.request import Request
    from facenet_jax.training.run_identities import trained_on

    _check(options)
    embedders = [open_embedder(spec, options.step if Path(spec).is_dir() else None) for spec in options.embedder]
    if options.step is not None and not any(Path(spec).is_dir() for spec in options.embedder):
        raise InputError(f"--step={options.step} says which checkpoint of a run, and no --embedder is one.")
    names = [embedder.name for embedder in embedders]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--embedder={name} was given twice; give each once.")
    if options.out:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out={options.out} cannot be made ({error.strerror}); give another folder.") from error
    request = Request(
        embedders,
        options.crop,
        options.out / "embeddings" if options.out else None,
        {embedder.name: trained_on(embedder) for embedder in embedders},
        not options.keep_shared,
    )
    outcome = _measure(options, request)
    data = outcome.document["data"]
    print(f"{outcome.protocol} on {data}, crop {outcome.document['crop']}")
    if request.left_out:
        done = "kept, and the figures may say little" if options.keep_shared else "left out"
        shown = ", ".join(request.left_out[:5]) + (", ..." if len(request.left_out) > 5 else "")
        print(f"{len(request.left_out):,} identities were trained on too, and are {done}: {shown}")
    print(outcome.table)
    if options.out:
        file = _place(options.out, outcome)
        write_whole(file, json.dumps(outcome.document, indent=1, allow_nan=False) + "\n")
        drawn = [draw(options.out / f"{file.stem}_{name}") for name, draw in outcome.figures.items()]
        print(f"written         {', '.join(str(path) for path in [file, *drawn])}")
    return 0


def _place(out: Path, outcome: Any) -> Path:
    """PROTOCOL.json, or PROTOCOL-2.json and so on where those are of other faces, pairs or crops."""

    def what(document: dict[str, Any]) -> list[Any]:
        return [document.get(key) for key in ("data", "pairs", "crop")]

    for number in itertools.count(1):
        file = out / (f"{outcome.protocol}.json" if number == 1 else f"{outcome.protocol}-{number}.json")
        try:
            if what(json.loads(file.read_text())) == what(outcome.document):
                break
        except (OSError, ValueError, AttributeError):  # none is there, or what is no result
            break
    return file


def _check(options: argparse.Namespace) -> None:
    """Raises InputError for what is wrong whatever the faces are, before any of them is embedded."""
    from facenet_jax.evaluation.verification import check_fars

    given = vars(options)
    for key in ("fars", "far", "false_alarms"):
        if key in given:
            check_fars(given[key] if isinstance(given[key], list) else [given[key]])
    if "splits" in given and options.splits < 1:
        raise InputError(f"--splits={options.splits}: give at least 1.")
    if given.get("threshold") is not None:
        check_threshold(options.threshold)
    if "threshold_pairs" in given and options.threshold_pairs is None:
        for key in ("threshold_data", "threshold_crop"):
            if given[key] is not None:
                raise InputError(f"--{key.replace('_', '-')} is of --threshold-pairs; give that too, or leave it out.")


def _measure(options: argparse.Namespace, request: Any) -> Any:
    from facenet_jax.evaluation import pair_protocols, protocols
    from facenet_jax.training.run_identities import own_held_out

    match options.protocol:
        case "holdout":
            folder = own_held_out(request) if options.data is None else protocols.prepared_folder(request, options.data)
            return protocols.run_holdout(request, folder, options.fars, options.splits)
        case "photos":
            return protocols.run_photos(request, options.data, options.fars)
        case "robustness":
            return protocols.run_robustness(request, options.data, options.far)
        case "compact":
            return protocols.run_compact(request, options.data, options.fars)
        case "identify":
            return protocols.run_identify(request, options.data, options.false_alarms)
        case "cluster":
            return protocols.run_cluster(request, options.data, options.threshold)
        case "pairs":
            return pair_protocols.run_pairs(request, options.data, options.fars)
        case "ytf":
            return pair_protocols.run_ytf(request, options.data, options.pairs, options.frames, options.fars)
        case "lfw" if options.threshold_pairs is None:
            return pair_protocols.run_lfw(request, options.data, options.pairs, options.fars)
        case "lfw":
            train = (
                options.threshold_data or options.data,
                options.threshold_pairs,
                options.threshold_crop or options.crop,
            )
            return pair_protocols.run_lfw_view1(
                request, train, (options.data, options.pairs, options.crop), options.fars
            )
    raise AssertionError(options.protocol)
