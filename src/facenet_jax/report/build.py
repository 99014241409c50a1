"""Builds the report: the paper's tables and figures next to those measured."""

from __future__ import annotations

from facenet_jax.errors import InputError, first_line
from facenet_jax.evaluation import paper
from facenet_jax.report import figures, galleries, tables
from facenet_jax.report.collect import DAMAGE, Collected, compatible, leave_out, together
from facenet_jax.report.page import render


def build(collected: Collected, title: str, images: bool = True) -> str:
    """The whole page; files that cannot be shown are named on standard error, and left out.

    Args:
      collected: what it shows.
      title: of the page.
      images: whether wrong pairs and clusters are shown by the viewer's own images, where these can be read.

    Raises:
      InputError: no file can be shown.
    """
    try:
        return _page(collected, title, images)
    except DAMAGE:
        whole = []
        for file, alone in collected.files:
            try:
                _page(alone, title, images)
                whole.append((file, alone))
            except DAMAGE as error:
                leave_out(file, f"{type(error).__name__}: {first_line(error)}")
        if len(whole) == len(collected.files):  # the error is not in a file
            raise
    if not whole:
        raise InputError("No file is left to report on: copy them again, or evaluate again.")
    return _page(together(whole), title, images)


def _page(collected: Collected, title: str, images: bool) -> str:
    embedders = collected.embedders
    return render(
        "report.html",
        title,
        paper=paper,
        overview=tables.overview(embedders),
        table_3=tables.table_3(embedders),
        table_4=tables.table_4(embedders),
        table_4_fars=tables.table_4_fars(embedders),
        table_5=tables.table_5(embedders),
        table_6=tables.table_6(embedders),
        accuracies=tables.accuracies(embedders),
        identification=tables.identification(embedders),
        clusters=tables.clusters(embedders),
        mirror_images=tables.mirror_images(embedders),
        compatible=[
            (both.name, tables.compatibility(old, both, new, protocols), figures.figure_5([old, both, new]))
            for old, both, new, protocols in compatible(embedders)
        ],
        comparisons=tables.comparisons(collected),
        squares=galleries.squares(embedders, images),
        figures=(
            ("Figure 4: accuracy against multiply-adds", figures.figure_4(embedders)),
            ("Figure 5: ROC curves", figures.figure_5(embedders)),
            ("Distances of pairs", figures.histograms(embedders)),
        ),
        wrong_pairs=galleries.wrong_pairs(embedders, images),
        largest_clusters=galleries.largest_clusters(embedders, images),
        worst=tables.worst(embedders),
        sweeps=[
            (content["question"], tables.sweep(content), figures.sweep_picture(folder))
            for folder, content in collected.sweeps
        ],
        training=figures.training(collected.histories),
        left_out=tables.left_out(collected),
    )
