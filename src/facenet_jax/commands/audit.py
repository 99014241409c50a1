"""`facenet-jax audit`: lists labels of a dataset that are probably wrong."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from facenet_jax.commands.options import CROPS, add_command

_EPILOG = """\
EMBEDDER is the working directory of a run, sface, onnx:PATH or a file of embeddings, as for `facenet-jax evaluate`.
What the list holds is left out by
  facenet-jax prepare photos faces --exclude audit/exclude.txt
  facenet-jax train --config=nn4 --config.data.path=faces --config.data.exclude=audit/exclude.txt
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    audit = add_command(
        commands,
        "audit",
        _audit,
        help="find wrong labels, merged and split identities and copies in a dataset",
        description="Judges the labels of a folder <identity>/<image> or a prepared dataset by where its faces lie, "
        "and writes a page to look through, a table, and a list of faces to leave out.",
        epilog=_EPILOG,
    )
    audit.add_argument("dataset", type=Path, metavar="DATASET", help="what to audit")
    audit.add_argument("--embedder", required=True, metavar="EMBEDDER", help="what compares faces")
    audit.add_argument("-o", "--output", type=Path, required=True, help="a folder for what is found")
    audit.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="where embeddings are kept as they are made; RESULTS/embeddings of `evaluate --out RESULTS` on the same "
        "faces, so that they are not embedded again (default: in the folder for what is found)",
    )
    audit.add_argument(
        "--crop",
        choices=CROPS,
        help="how faces are cut; none: as they are (default: as the embedder, or the dataset that a run was trained "
        "on, says; none where the faces of DATASET were cut when they were prepared)",
    )


def _audit(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.curation.audit import audit
    from facenet_jax.curation.audit_files import OWN_FILES, PAGE_FILE, format_findings, write_findings
    from facenet_jax.curation.audit_page import build_page
    from facenet_jax.curation.results_folder import KEPT, claimed
    from facenet_jax.datasets.open import crop_of
    from facenet_jax.embedders import open_embedder
    from facenet_jax.embedders.base import crop_for_dataset, crop_in_words, warn_of_crop
    from facenet_jax.runtime.files import write_whole
    from facenet_jax.runtime.progress import Progress

    embedder = open_embedder(options.embedder)
    cut = crop_of(options.dataset)
    crop = crop_for_dataset(embedder, cut, options.crop)
    warn_of_crop(embedder, cut, crop)
    if options.crop is None and crop != "none":
        Progress().say(crop_in_words(embedder, crop))
    with claimed(options.output, OWN_FILES):
        found = audit(options.dataset, embedder, crop, options.keep or options.output / KEPT, Progress())
        write_findings(found, options.output)
        write_whole(options.output / PAGE_FILE, build_page(found))
    print(format_findings(found))
    print(f"look through    {options.output / PAGE_FILE}")
    return 0
