"""`facenet-jax embed`: writes a file of the embeddings of all faces in photographs."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from facenet_jax.commands.options import EPILOG, add_command, add_embedder, finder_of
from facenet_jax.errors import InputError


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    embed = add_command(
        commands,
        "embed",
        _embed,
        help="find every face of photographs and embed it",
        description="Finds every face in photographs and writes a file of embeddings, and a list of the photographs "
        "that show none or cannot be read. Stopped or killed, it resumes when run again.",
        epilog=EPILOG,
    )
    embed.add_argument("photos", type=Path, nargs="+", metavar="PHOTOS", help="folders, with all below them, or files")
    embed.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="a .parquet or .npz file")
    add_embedder(embed)
    embed.add_argument("--compact", action="store_true", help="one byte a coordinate instead of four")


def _embed(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.datasets.walk import in_words
    from facenet_jax.recognition.embeddings_file import check_table, write_table
    from facenet_jax.recognition.finder import open_photos
    from facenet_jax.runtime.progress import Progress, amount

    check_table(options.out)
    photos = open_photos(options.photos)
    finder = finder_of(options)
    progress = Progress()
    parts = options.out.with_name(f".{options.out.name}.parts")
    faces = finder.find(photos.images, parts, progress)
    if not len(faces.photo):
        file, reason = faces.rejected[0]
        raise InputError(f"None of the {len(faces.files):,} photographs gave a face (the first, {file}: {reason}).")
    written = write_table(faces, options.out, finder.embedder, finder.crop, options.compact)
    shutil.rmtree(parts, ignore_errors=True)
    print(f"photographs     {len(faces.files):,}, {photos.ignored:,} other files passed over")
    if photos.passed_over:
        print(f"passed over     {in_words(photos.passed_over)}")
    print(f"faces           {len(faces.photo):,} by {finder.embedder.name}, crop {finder.crop}")
    if written.packed:
        print(
            f"one byte each   step {written.packed.step:.5f}, {written.packed.clipped:,} coordinates clipped, vectors "
            f"off by up to {written.packed.rounding:.4f}"
        )
    print(f"written         {written.table} ({amount(written.table.stat().st_size)})")
    if written.rejects:
        print(f"without a face  {len(faces.rejected):,} photographs, listed in {written.rejects}")
    return 0
