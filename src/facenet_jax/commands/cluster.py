"""`facenet-jax cluster`: groups the faces of photographs by person."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facenet_jax.commands.options import EPILOG, add_command, add_embedder, add_evaluation, add_far, finder_of
from facenet_jax.errors import InputError

if TYPE_CHECKING:
    from facenet_jax.recognition.finder import FaceFinder


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    cluster = add_command(
        commands,
        "cluster",
        _cluster,
        help="sort photographs by person",
        description="Finds every face in photographs, groups them by person (section 5.8), and writes a folder of "
        "links for each, a table, and a contact sheet. Stopped or killed, it resumes when run again.",
        epilog=EPILOG,
    )
    cluster.add_argument("photos", type=Path, metavar="PHOTOS", help="a folder, with all below it")
    cluster.add_argument("-o", "--out", type=Path, required=True, metavar="PEOPLE", help="a new folder for the result")
    add_embedder(cluster)
    how = cluster.add_mutually_exclusive_group()
    add_evaluation(how)
    how.add_argument(
        "--threshold", type=float, help="mean squared distance, such as `evaluate cluster` finds to be the best"
    )
    how.add_argument("--people", type=int, help="how many people there are, where that is known (k-means)")
    add_far(cluster)


def _cluster(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.curation.contact_sheet import build_sheet
    from facenet_jax.curation.people import PAGE_FILE, find_people, format_people, write_people
    from facenet_jax.curation.results_folder import KEPT, claimed_for_all
    from facenet_jax.recognition.finder import open_photos
    from facenet_jax.runtime.files import check_outside, write_whole
    from facenet_jax.runtime.progress import Progress

    photos = open_photos([options.photos])
    finder = finder_of(options)
    within = _within(options, finder)
    check_outside(options.out, options.photos)
    progress = Progress()
    with claimed_for_all(options.out) as new:
        people = find_people(photos, finder, within, options.out / KEPT, progress)
        write_people(people, new, progress)
        write_whole(new / PAGE_FILE, build_sheet(people, progress))
    print(format_people(people))
    print(f"look through    {options.out / PAGE_FILE}")
    return 0


def _within(options: argparse.Namespace, finder: FaceFinder) -> tuple[float, str] | int:
    """(squared distance, in words), or the number of people where that is given."""
    from facenet_jax.recognition.thresholds import choose_threshold, how_to_evaluate, read_thresholds

    if options.far is not None and options.evaluation is None:
        raise InputError(f"--far={options.far:g} picks from what was measured: give --evaluation too.")
    if options.people is not None:
        return int(options.people)
    if options.evaluation is not None:
        chosen = choose_threshold(read_thresholds(options.evaluation, finder), options.far)
        return chosen.distance, str(chosen)
    if options.threshold is None:
        raise InputError(
            "The distance within which two groups are one person is not known: give --evaluation, --threshold (what "
            f"`evaluate cluster` found), or --people; to get a file for --evaluation, {how_to_evaluate(finder)}"
        )
    from facenet_jax.evaluation.verification import check_threshold

    return check_threshold(options.threshold), f"squared distance {options.threshold:.4f} (given)"
