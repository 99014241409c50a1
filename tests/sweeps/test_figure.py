"""The figure of a sweep: its axes and its lines."""

import pytest

from facenet_jax.errors import InputError
from facenet_jax.sweeps import figure as sweep_plot
from facenet_jax.sweeps.figure import Measured, sweep_figure


@pytest.fixture
def axes(monkeypatch):
    """The axes of the figures that are saved."""
    found = []
    save = sweep_plot.save
    monkeypatch.setattr(sweep_plot, "save", lambda figure, path: found.append(figure.axes[0]) or save(figure, path))
    return found


def test_numbers_are_an_axis_in_their_order(axes, tmp_path):
    points = [Measured("512", 0.3, 0.01), Measured("64", 0.2, None)]
    sweep_figure("Why?", "size", {0.01: points, 0.001: points[:1]}, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert axes[0].get_xscale() == "log"
    assert list(axes[0].get_xticks()) == [64, 512]
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["FAR 0.01", "FAR 0.001"]
    assert axes[0].containers[0].lines[0].get_ydata() == pytest.approx([30, 20])


def test_names_are_categories_in_their_order(axes, tmp_path):
    sweep_figure(
        "Why?", "network", {0.01: [Measured("nns2", 0.3, 0.01), Measured("nn4", 0.4, 0.01)]}, tmp_path / "a.png"
    )
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["nns2", "nn4"]
    with pytest.raises(InputError, match="no finished point"):
        sweep_figure("Why?", "network", {0.01: []}, tmp_path / "a.png")
