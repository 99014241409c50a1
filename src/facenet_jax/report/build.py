"""What was measured -> the page: the paper's tables and figures, with its figures beside."""

from __future__ import annotations

from facenet_jax.evaluation import paper
from facenet_jax.report.collect import Collected
from facenet_jax.report.page import note, page, section, table
from facenet_jax.report.pictures import (
    cluster_gallery,
    figure_1,
    figure_4,
    figure_5,
    histograms,
    sweep_picture,
    training,
    wrong_pairs,
)
from facenet_jax.report.tables import (
    accuracies,
    clusters,
    comparisons,
    identification,
    left_out,
    overview,
    sweep,
    table_3,
    table_4,
    table_5,
    table_6,
    worst,
)

_VALS = ("VAL at FAR 0.001", "VAL at FAR 0.01")


def build(collected: Collected, title: str, images: bool = True) -> str:
    """The whole page.

    Args:
      collected: what it shows.
      title: of it.
      images: whether wrong pairs and clusters are shown by the viewer's own images, where these can be read.
    """
    everybody = collected.embedders
    sections = [
        section("What was trained on what", overview(everybody)),
        section(
            "Table 3: validation rate on the hold-out",
            table(("embedder", "network", *_VALS, "the paper's", "on"), table_3(everybody)),
            note(
                "Mean and standard error over splits of identities; the paper's column is what it reports for this "
                "network on its own data. A FAR that the pairs cannot resolve says how many it needs."
            ),
        ),
        table_4(everybody),
        section(
            "Table 5: size of the embedding",
            table(
                ("embedder", "dimensions", "form", "bytes", *_VALS, "the paper's"),
                table_5(everybody),
            ),
        ),
        section(
            "Table 6: amount of training data",
            table(("embedder", "training faces", "identities", "VAL", "on"), table_6(everybody)),
            note(
                "The paper's, on personal photographs: "
                + ", ".join(f"{n / 1e6:g}M faces {100 * v:.1f} %" for n, v in paper.TABLE_6.items())
            ),
        ),
        section(
            "Labelled Faces in the Wild, YouTube Faces and other pairs",
            table(
                ("embedder", "protocol", "crop", "accuracy", "equal error rate", "area", "on"), accuracies(everybody)
            ),
            note(
                "The paper's: LFW 98.87 % ± 0.15 with a fixed centre crop, 99.63 % ± 0.09 with a face detector; "
                "YouTube Faces 95.12 % ± 0.39 with 100 frames, 95.18 % with 1,000."
            ),
        ),
        section("Identification and clusters", identification(everybody), clusters(everybody)),
        section("Comparisons on the same pairs", comparisons(collected)),
        section(
            "Figure 1: pose and light",
            *figure_1(everybody, images),
            note(
                "Squared distances between pictures of a few people; pairs of one person are tinted, pairs on the "
                "wrong side of the threshold framed. In the paper's Figure 1 a threshold of 1.1 tells all pairs apart."
            ),
        ),
        section("Figure 4: accuracy against multiply-adds", figure_4(everybody)),
        section("Figure 5: ROC curves", figure_5(everybody)),
        section("Distances of pairs", *histograms(everybody)),
        section("Figure 6: wrong pairs", *wrong_pairs(everybody, images)),
        section("Figure 7: clusters", *cluster_gallery(everybody, images)),
        section("Worst identities", *worst(everybody)),
        *(
            section(f"Sweep: {content['question']}", sweep(content), sweep_picture(folder))
            for folder, content in collected.sweeps
        ),
        section("Training", training(collected)),
        section("Left out", left_out(collected)),
    ]
    return page(title, [one for one in sections if one])
