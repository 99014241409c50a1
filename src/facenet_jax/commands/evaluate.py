"""`facenet-jax evaluate PROTOCOL`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from facenet_jax.errors import InputError

_EPILOG = """\
EMBEDDER is the working directory of a run, sface (the yardstick, of the extra `align`), a file of embeddings (.npz with
the arrays embeddings and names), or onnx:PATH with what its input needs, such as
  onnx:model.onnx,size=112x112,scale=0.00784,mean=127.5,colour=bgr
Give --embedder again to compare several on the same faces.
"""
_CROPS = ("none", "centre", "tight", "similarity")
_CHANGED = "has changed since it was trained on, so that whom is not surely known"


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
    lfw.add_argument("--threshold-crop", choices=_CROPS, help="how those are cut (default: --crop)")
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
    parser.add_argument("--crop", choices=_CROPS, default="none", help="how faces are cut (default: none, as they are)")
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

    embedders = [open_embedder(spec, options.step if Path(spec).is_dir() else None) for spec in options.embedder]
    if options.step is not None and not any(Path(spec).is_dir() for spec in options.embedder):
        raise InputError(f"--step={options.step} says which checkpoint of a run, and no --embedder is one.")
    names = [embedder.name for embedder in embedders]
    if len(set(names)) < len(names):
        raise InputError(f"--embedder={names[0]} was given twice; give each once.")
    if options.out:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out={options.out} cannot be made ({error.strerror}); give another folder.") from error
    request = Request(
        embedders,
        options.crop,
        options.out / "embeddings" if options.out else None,
        {embedder.name: _trained_on(embedder) for embedder in embedders},
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
        file = options.out / f"{outcome.protocol}.json"
        file.write_text(json.dumps(outcome.document, indent=1, allow_nan=False) + "\n")
        drawn = [draw(options.out / f"{outcome.protocol}_{name}") for name, draw in outcome.figures.items()]
        print(f"written         {', '.join(str(path) for path in [file, *drawn])}")
    return 0


def _measure(options: argparse.Namespace, request: Any) -> Any:
    from facenet_jax.evaluation import pair_protocols, protocols

    match options.protocol:
        case "holdout":
            folder = (
                _own_held_out(request) if options.data is None else protocols.prepared_folder(request, options.data)
            )
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


def _trained_on(embedder: Any) -> frozenset[str]:
    """The names of the identities that a run was trained on, and those that it started from.

    What cannot be told, as where a folder cannot be read any more, is a remark of the embedder's.
    """
    from facenet_jax.embedders import CheckpointEmbedder
    from facenet_jax.training.faces import open_faces

    if not isinstance(embedder, CheckpointEmbedder):
        return frozenset()
    names = _before_it(embedder)
    try:
        faces = open_faces(embedder.config)
    except InputError as error:
        embedder.remarks.append(f"whom it was trained on cannot be told: {error}")
        return names
    index = faces.train.index
    embedder.training = {
        "data": " and ".join(part.name for part in faces.parts),
        "faces": int(index.counts[faces.train_identities].sum()),
        "identities": len(faces.train_identities),
    }
    if _has_changed(embedder.workdir, faces):
        embedder.remarks.append(f"{embedder.training['data']} {_CHANGED}")
    return names | _names(faces)


def _names(faces: Any) -> frozenset[str]:
    """Of those trained on; drawn people are nobody, and their names are numbers."""
    from facenet_jax.data.drawn import DrawnFaces

    if isinstance(faces.train, DrawnFaces):
        return frozenset()
    return frozenset(faces.train.index.names[i] for i in faces.train_identities)


def _has_changed(workdir: Path, faces: Any) -> bool:
    """Whether a run began on other faces; False where nothing says on which."""
    from facenet_jax.training.run_directory import read_run

    try:
        before = read_run(workdir)["digests"]["train"]
    except (InputError, KeyError, TypeError, ValueError):
        return False
    return bool(before != faces.digest)


def _before_it(embedder: Any) -> frozenset[str]:
    """The names of those that the runs were trained on from whose parameters a run started, one from the other."""
    from facenet_jax.storage import locate
    from facenet_jax.training.faces import open_faces

    names: frozenset[str] = frozenset()
    config, seen = embedder.config, {embedder.workdir.resolve()}
    unknown = "whom the run was trained on that it started from cannot be told"
    while config.init_from:
        try:
            workdir = locate(config.init_from)
            if workdir.resolve() in seen:
                raise InputError(f"{workdir} holds a run by now that started from this one.")
            seen.add(workdir.resolve())
            config = _config_of(workdir)
        except InputError as error:
            embedder.remarks.append(f"{unknown}: {error}")
            break
        try:
            faces = open_faces(config)
        except InputError as error:  # its own parent may still be told
            embedder.remarks.append(f"{unknown}: {error}")
            continue
        if _has_changed(workdir, faces):
            data = " and ".join(part.name for part in faces.parts)
            embedder.remarks.append(f"{data}, of {workdir} that it started from, {_CHANGED}")
        names |= _names(faces)
    return names


def _config_of(workdir: Path) -> Any:
    """The config of the run in a working directory; Raises InputError as `read_run`."""
    from facenet_jax.config import default_config, flatten
    from facenet_jax.training.run_directory import RUN_FILE, read_run

    config, known = default_config(), flatten(default_config())
    try:
        saved = read_run(workdir)["config"]
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in saved.items() if key in known}
        config.update_from_flattened_dict(values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{workdir / RUN_FILE} is no config of a run.") from error
    return config


def _own_held_out(request: Any) -> Any:
    """The faces that a run itself held out."""
    import io

    import numpy as np
    from PIL import Image

    from facenet_jax.embedders import CheckpointEmbedder
    from facenet_jax.embedders.embedding import Images
    from facenet_jax.evaluation.request import Folder, leave_out_known
    from facenet_jax.training.faces import open_faces

    if len(request.embedders) != 1 or not isinstance(request.embedders[0], CheckpointEmbedder):
        raise InputError("--data is needed: only a single run has faces of its own that it held out.")
    (embedder,) = request.embedders
    held_out = open_faces(embedder.config).held_out
    source, records = held_out.source, held_out.records

    def read(number: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(source.load(int(records[number]), embedder.size)).save(file, "PNG", compress_level=1)
        return file.getvalue()

    labels = np.array(source.index.names)[source.index.identity_of(records)]
    keys = tuple(f"{label}/{record}" for label, record in zip(labels, records, strict=True))
    folder = Folder(Images(keys, read, _fingerprint(held_out)), labels, Path(held_out.name))
    return leave_out_known(request, folder)


def _fingerprint(held_out: Any) -> str:
    """Of held-out faces: a folder's own digest is of names alone, so that size and time of its files are added."""
    from facenet_jax.evaluation.request import fingerprint

    # Faces that are drawn, or prepared, have no files of their own; their digest says all.
    files = [Path(held_out.source.describe(int(record))) for record in held_out.records]
    return f"{held_out.digest}|{fingerprint(Path(), files)}"
