"""`facenet-jax cluster`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from facenet_jax.commands.face_options import EPILOG, add_embedder, finder_of
from facenet_jax.errors import InputError

# All is written into the first; the second names what is being moved out of it.
_NEW, _MOVED = ".new", ".moved"


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    cluster = commands.add_parser(
        "cluster",
        help="sort photographs by who is on them",
        description="Finds every face in photographs, groups them by person (section 5.8), and writes a folder of "
        "links for each, a table, and a contact sheet. Stopped or killed, the command goes on when given again.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    cluster.add_argument("photos", type=Path, metavar="PHOTOS", help="a folder, walked to its end")
    cluster.add_argument("-o", "--out", type=Path, required=True, metavar="PEOPLE", help="a new folder for the result")
    add_embedder(cluster)
    how = cluster.add_mutually_exclusive_group()
    how.add_argument(
        "--evaluation",
        type=Path,
        metavar="FILE.json",
        help="what `evaluate holdout|photos|lfw|pairs --out` wrote: where the threshold comes from",
    )
    how.add_argument(
        "--threshold", type=float, help="mean squared distance, such as `evaluate cluster` finds to be the best"
    )
    how.add_argument("--people", type=int, help="how many people there are, where that is known (k-means)")
    cluster.add_argument("--far", type=float, help="false accept rate (default: the smallest that was measured)")
    cluster.set_defaults(run=_cluster)


def _cluster(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.curation.people import PAGE_FILE, format_people
    from facenet_jax.curation.results_folder import claimed
    from facenet_jax.recognition.photos import open_photos

    photos = open_photos([options.photos])
    finder = finder_of(options)
    threshold, words = _threshold(options, finder)
    if options.photos.resolve() in (options.out.resolve(), *options.out.resolve().parents):
        raise InputError(f"{options.out} lies in {options.photos}, which is read only; give a folder elsewhere.")
    moved = options.out / _MOVED
    lines = moved.read_text().splitlines() if moved.is_file() else []
    before = [line for line in lines if Path(line).name == line]  # they are removed, and nothing elsewhere
    with claimed(options.out, (_NEW, _MOVED, *before)):
        people = _sorted(options, finder, photos, threshold, words, before)
    print(format_people(people))
    print(f"look through    {options.out / PAGE_FILE}")
    return 0


def _sorted(
    options: argparse.Namespace, finder: Any, photos: Any, threshold: float | None, words: str, before: list[str]
) -> Any:
    """Finds and groups the faces, and writes everything in place of what an earlier call was about to."""
    from facenet_jax.curation.contact_sheet import build_sheet
    from facenet_jax.curation.grouping import group, into
    from facenet_jax.curation.people import PAGE_FILE, People, write_people
    from facenet_jax.curation.results_folder import KEPT
    from facenet_jax.runtime.files import write_whole
    from facenet_jax.runtime.progress import Progress

    progress = Progress()
    faces = finder.find(photos.images, options.out / KEPT, progress)
    if len(faces.photo) < 2:
        found = "no face" if not len(faces.photo) else "one face alone"
        raise InputError(
            f"The {len(faces.files):,} photographs of {options.photos} show {found}, which leaves nothing to group; "
            "give more photographs, or another --crop."
        )
    progress.line(f"grouping {len(faces.photo):,} faces")
    grouped = into(faces.points, options.people) if threshold is None else group(faces.points, threshold)
    people = People(photos.root, faces, grouped, finder.embedder.name, finder.crop, words)
    # All of it first, so that what a killed process leaves is known for that.
    new, moved = options.out / _NEW, options.out / _MOVED
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    write_people(people, new, progress)
    write_whole(new / PAGE_FILE, build_sheet(people, progress))
    for name in before:
        if (options.out / name).is_dir():
            shutil.rmtree(options.out / name)
    names = sorted(entry.name for entry in new.iterdir())
    write_whole(moved, "".join(f"{name}\n" for name in {*names, *before}))
    for name in names:
        (new / name).replace(options.out / name)
    new.rmdir()
    shutil.rmtree(options.out / KEPT)
    moved.unlink()
    return people


def _threshold(options: argparse.Namespace, finder: Any) -> tuple[float | None, str]:
    """(squared distance, or None where the number of people is given; in words)."""
    from facenet_jax.recognition.thresholds import choose_threshold, how_to_evaluate, read_thresholds

    if options.far is not None and options.evaluation is None:
        raise InputError(f"--far={options.far:g} picks from what was measured: give --evaluation too.")
    if options.people is not None:
        return None, ""
    if options.evaluation is not None:
        chosen = choose_threshold(read_thresholds(options.evaluation, finder), options.far)
        return chosen.distance, str(chosen)
    if options.threshold is None:
        raise InputError(
            "How near two groups of one person lie is not known: give --evaluation, --threshold (what `evaluate "
            f"cluster` found), or --people; to get a file for --evaluation, {how_to_evaluate(finder)}"
        )
    from facenet_jax.evaluation.verification import check_threshold

    return check_threshold(options.threshold), f"{options.threshold:.4f} (given)"
