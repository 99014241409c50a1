"""Figures are written, of a sensible size and without warnings, also with little to draw."""

import itertools
import math

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from evaluating import unit
from facenet_jax.errors import InputError
from facenet_jax.evaluation.holdout import holdout
from facenet_jax.evaluation.plot_style import draw_histogram, one_panel
from facenet_jax.evaluation.plots import histogram_figure, identities_figure, loss_figure, roc_figure


def faces(identities, noise):
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(identities), 6)
    points = rng.normal(size=(identities, 8))[labels] + noise * rng.normal(size=(len(labels), 8))
    return unit(points), labels


def is_a_picture(path):
    pixels = matplotlib.image.imread(path)
    return pixels.shape[0] > 400 and pixels.shape[1] > 600 and pixels.std() > 0.01


def test_roc_of_one_result_and_of_several(tmp_path):
    fine, poor = holdout(*faces(20, 0.3)), holdout(*faces(20, 2.0))
    assert is_a_picture(roc_figure(fine, tmp_path / "one.png"))
    assert is_a_picture(roc_figure({"fine": fine, "poor": poor}, str(tmp_path / "two.png")))


@pytest.mark.parametrize("collapsed", [False, True])
def test_roc_of_one_split_and_of_collapsed_embeddings(tmp_path, collapsed):
    points, labels = faces(3, 0.5)
    if collapsed:
        points[:] = np.eye(8, dtype=np.float32)[0]
    assert is_a_picture(roc_figure(holdout(points, labels, fars=[0.1, 1e-6]), tmp_path / "roc.png"))


def test_loss_with_all_metrics_with_holes_and_with_one_row(tmp_path):
    rows = [
        {"step": s, "loss": 0.2 / (1 + s), "active_share": 0.5, "spread": 0.9, "mean_ap": 0.4, "mean_an": 1.2}
        for s in range(200)
    ]
    rows[7]["loss"] = math.nan
    rows[8]["spread"] = None
    rows[100]["val_far_0.001"] = 0.6
    assert is_a_picture(loss_figure(rows, tmp_path / "all.png"))
    assert is_a_picture(loss_figure([{"step": 5, "loss": 0.1}, {"step": 6}], tmp_path / "one.png"))


def test_histogram_ends_after_the_data_and_its_labels_lie_apart(tmp_path):
    same, different = np.zeros(400, np.int64), np.zeros(400, np.int64)
    same[70], different[150:240] = 20, 3  # up to 2.4
    thresholds = [(0.01, 1.33), (0.001, 1.18), (0.0001, 1.16)]
    figure, axes = one_panel(7, 4)
    draw_histogram(axes, same, different, thresholds)
    assert axes.get_xlim() == (0, pytest.approx(1.05 * 2.4))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in axes.texts]
    assert len(boxes) == 3
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert is_a_picture(histogram_figure(same, different, thresholds, "some faces", tmp_path / "some.png"))
    assert is_a_picture(histogram_figure(0 * same, 0 * same, [], "no pairs", tmp_path / "none.png"))


def test_nothing_to_draw_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no loss to draw"):
        loss_figure([{"step": 1, "spread": 0.5}], tmp_path / "loss.png")
    with pytest.raises(InputError, match="no hold-out result"):
        roc_figure({}, tmp_path / "roc.png")


@pytest.mark.parametrize("histogram", [[], [[1, 1, 3]], [[2**k, 2 ** (k + 1) - 1, 3 ** (15 - k)] for k in range(15)]])
def test_identities_by_their_faces(tmp_path, histogram):
    assert is_a_picture(identities_figure(histogram, "some faces", tmp_path / "identities.png"))
    assert [file.name for file in tmp_path.iterdir()] == ["identities.png"]
