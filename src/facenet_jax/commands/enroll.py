"""`facenet-jax enroll`: adds people to an index, and removes them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facenet_jax.commands.options import EPILOG, add_command, add_embedder, add_evaluation, add_largest, finder_of
from facenet_jax.errors import InputError

if TYPE_CHECKING:
    from facenet_jax.recognition.finder import FaceFinder
    from facenet_jax.recognition.index import PeopleIndex

_SHOWN = 10


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    enroll = add_command(
        commands,
        "enroll",
        _enroll,
        help="put people into an index, or take them out",
        description="Enrols the people of a gallery <person>/<photo>. Run again, it adds people and photographs.",
        epilog=EPILOG,
    )
    enroll.add_argument("gallery", type=Path, nargs="?", metavar="GALLERY", help="a folder <person>/<photo>")
    enroll.add_argument("index", type=Path, metavar="INDEX", help="a folder for the index")
    add_embedder(enroll, needed=False)
    enroll.add_argument("--compact", action="store_true", help="a new index of one byte a coordinate instead of four")
    add_largest(enroll)
    enroll.add_argument("--remove", nargs="+", default=[], metavar="NAME", help="people (or PERSON/PHOTO) to remove")
    enroll.add_argument(
        "--sync", action="store_true", help="remove the faces whose photographs are not in the gallery any more"
    )
    add_evaluation(enroll, "what `evaluate identify --out` wrote (or holdout, photos, ...): keeps its thresholds")


def _enroll(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.recognition.index_files import held

    if options.sync and options.gallery is None:
        raise InputError("--sync makes an index equal to its gallery: give the gallery too.")
    if options.gallery is None and not options.remove and options.evaluation is None:
        raise InputError("Give a gallery to enrol, people to --remove, or an --evaluation with thresholds.")
    with held(options.index):
        return _change(options)


def _change(options: argparse.Namespace) -> int:
    from facenet_jax.datasets.names import comparable
    from facenet_jax.embedders.labelled_images import open_labelled
    from facenet_jax.recognition.embeddings_file import new_rejects, write_rejects
    from facenet_jax.recognition.gallery import enroll
    from facenet_jax.recognition.index_files import REJECTS, is_index, load_index, save_index
    from facenet_jax.recognition.thresholds import read_thresholds
    from facenet_jax.runtime.progress import Progress

    root = options.index
    index = load_index(root) if is_index(root) or options.gallery is None or options.remove else None
    if options.gallery is not None and options.remove:
        folder, leaving = open_labelled(options.gallery, singles=True), set(map(comparable, options.remove))
        for name in [*folder.labels.tolist(), *folder.images.keys]:
            if comparable(name) in leaving:
                raise InputError(
                    f"{options.gallery} still holds {name}, who would be enrolled again at once; take that out of the "
                    "gallery first."
                )
    if index is not None and options.remove:
        gone = index.remove(options.remove)
        what = "names" if any("/" in name for name in options.remove) else "people"
        print(f"removed         {gone:,} faces of {len(set(options.remove)):,} {what}")
    if options.gallery is not None or options.evaluation is not None:
        finder = _open_finder(options, index)
        if index is not None and finder.known is not None:  # it was trained to be compatible with the index's
            index.hand_over(finder)
            finder = replace(finder, known=None)
    if options.evaluation is not None:
        thresholds = (
            (read_thresholds(options.evaluation, finder, among_people=True), [])
            if index is None
            else index.read_thresholds(options.evaluation, finder)
        )
    if options.gallery is not None:
        index, new = enroll(
            root, index, finder, options.gallery, options.compact, options.largest, options.sync, Progress()
        )
        print(f"enrolled        {len(new.files):,} faces of {len(set(new.people)):,} people")
        if new.before:
            print(f"before          {new.before:,} photographs were enrolled already")
        if new.outdated:
            outdated = [f"{file} ({became})" for _, file, became in new.outdated]
            _list("removed" if options.sync else "outdated", outdated, "faces enrolled before")
            if not options.sync:
                print("                they stay enrolled; --sync removes what the gallery does not hold any more")
        fresh = new_rejects(root / REJECTS, new.rejected)
        if known := len(new.rejected) - len(fresh):
            print(f"passed over     {known:,} photographs as before ({REJECTS})")
        _list("passed over", [f"{file} ({reason})" for file, reason in fresh], f"photographs ({REJECTS})")
        _list("no usable face", new.missing, "people")
        if new.passed_over:
            print(f"other files     {new.passed_over}")
        if new.several:
            print(f"                {new.several:,} show several faces; --largest takes the largest near the centre")
    assert index is not None
    if options.evaluation is not None:
        index.thresholds, index.older_thresholds = thresholds
    save_index(index, root)
    if options.gallery is not None:
        write_rejects(root / REJECTS, new.rejected)
    form = "float32" if index.vectors.step is None else f"int8, {index.vectors.clipped:,} coordinates clipped"
    print(f"index           {root}: {len(index.files):,} faces of {len(index.people):,} people, {form}")
    _say_thresholds(index)
    return 0


def _say_thresholds(index: PeopleIndex) -> None:
    before = int(index.of_older.sum())
    groups = [(index.thresholds, len(index.files) - before)]
    if index.older is not None:
        print(f"embedder        {index.name}; {before:,} faces stay as {index.older.name} enrolled them")
        groups.append((index.older_thresholds, before))
        if not all(thresholds for thresholds, _ in groups):
            print(
                f"threshold       none holds: --evaluation takes what `evaluate identify --embedder {index.spec} "
                f"--against {index.older.spec} --out` wrote"
            )
    for number, (thresholds, faces) in enumerate(groups):
        if number and index.older is not None:
            print(f"against         {index.older.name}, for the {faces:,} faces that it enrolled:")
        for threshold in thresholds:
            print(f"threshold       {threshold}")
            print(f"                {threshold.promise(faces, len(index.people))}")


def _open_finder(options: argparse.Namespace, index: PeopleIndex | None) -> FaceFinder:
    """The finder of the index, or for a new index the one that the options name."""
    if index is not None:
        return index.open_finder(options.index, options.embedder, options.step, options.crop, options.flip)
    if options.embedder is None:
        raise InputError(f"{options.index} is a new index: give the network with --embedder, such as --embedder=sface.")
    return finder_of(options)


def _list(title: str, names: list[str], what: str) -> None:
    if names:
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        print(f"{title:<16}{len(names):,} {what}: {shown}")
