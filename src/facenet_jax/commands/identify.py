"""`facenet-jax identify`: names the faces of photographs by an index."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from facenet_jax.commands.options import EPILOG, add_accept_rate, add_command, add_embedder, add_evaluation, add_far
from facenet_jax.errors import InputError


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    identify = add_command(
        commands,
        "identify",
        _identify,
        help="name the people of an index in photographs",
        description="Names the faces of photographs by the people of an index; beyond the threshold they are unknown.",
        epilog=EPILOG,
    )
    identify.add_argument("photos", type=Path, nargs="+", metavar="PHOTO", help="photographs, or folders of them")
    identify.add_argument("index", type=Path, metavar="INDEX", help="what `facenet-jax enroll` made")
    add_embedder(identify, needed=False)
    add_evaluation(identify, "where the threshold comes from (default: what was given to `enroll`)")
    add_far(identify)
    add_accept_rate(identify)
    identify.add_argument("-k", type=int, default=3, help="how many of the nearest people to name (default: 3)")
    identify.add_argument("-o", "--out", type=Path, metavar="FILE", help="a .json or .csv file for the results")


def _identify(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.recognition.finder import open_photos
    from facenet_jax.recognition.identify import format_identified, identify, write_identified
    from facenet_jax.recognition.index_files import load_index
    from facenet_jax.recognition.thresholds import choose_threshold, how_to_evaluate
    from facenet_jax.runtime.progress import Progress

    if options.k < 1:
        raise InputError(f"-k {options.k}: ask for at least one person.")
    if options.out and options.out.suffix not in (".json", ".csv"):
        raise InputError(f"{options.out}: give a name that ends in .json or .csv.")
    if options.out and not options.out.parent.is_dir():
        raise InputError(f"The folder {options.out.parent} does not exist; make it, or give another file.")
    index = load_index(options.index)
    if not index.people:
        raise InputError(f"{options.index} has nobody enrolled; facenet-jax enroll GALLERY {options.index}")
    finder = index.open_finder(options.index, options.embedder, options.step, options.crop, options.flip)
    # What the index keeps was measured with the embedder that enrolled its people.
    thresholds, between = (index.thresholds, index.older_thresholds) if finder.known is None else ([], [])
    if options.evaluation:
        thresholds, between = index.read_thresholds(options.evaluation, finder)
    if not thresholds or (index.older is not None and not between):
        raise InputError(
            f"A threshold comes from an evaluation, and {options.index} has none"
            f"{'' if finder.known is None else f' of {finder.name}'}: give --evaluation, or "
            f"{how_to_evaluate(finder, among_people=True)}"
        )
    threshold = choose_threshold(thresholds, options.far)
    older = None if index.older is None else choose_threshold(between, options.far)
    before = int(index.of_older.sum())
    own = len(index.files) - before
    threshold.check(own, options.accept_rate, None if older is None else (older, before))
    faces = finder.find(open_photos(options.photos).images, progress=Progress())
    found = identify(index, faces, threshold, options.k, older)
    if options.out:
        write_identified(options.out, found, threshold, older, faces.rejected)
    print(format_identified(found))
    if finder.known is not None:
        print(f"compared        {finder.name}, which enrolled the people")
    print(f"threshold       {threshold}")
    print(f"                {threshold.promise(own, len(index.people))}")
    if older is not None and index.older is not None:
        print(f"against         {index.older.name}, for the {before:,} faces that it enrolled:")
        print(f"threshold       {older}")
        print(f"                {older.promise(before, len(index.people))}")
    for file, reason in faces.rejected:
        print(f"passed over     {file} ({reason})")
    if options.out:
        print(f"written         {options.out}")
    return 0
