"""The figures of the pages: the drawing of the selections agrees with their definitions."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facenet_jax.datasets.drawn import people as synthetic

DOCS = Path(__file__).parents[2] / "docs"


def load(name):
    spec = importlib.util.spec_from_file_location(f"{name}_drawing", DOCS / "figures" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawing():
    return load("selections")


def test_drawn_people_are_shown_one_a_row_between_white_gutters():
    sheet = load("faces").sheet(4, 3, 5, (20, 24))
    assert sheet.shape == (3 * 22 + 2, 5 * 26 + 2, 3)
    assert (sheet[:2] == 255).all()
    assert (sheet[:, -2:] == 255).all()
    np.testing.assert_array_equal(sheet[24:44, 28:52], synthetic.render(4, 1, 1, (20, 24)))


def test_the_drawing_is_made(drawing, tmp_path):
    path = tmp_path / "selections.png"
    drawing.selections_figure(path)
    assert path.stat().st_size < 150_000
    with Image.open(path) as image:
        assert image.width >= 1200


def test_the_drawn_faces_are_at_the_distances_of_their_labels(drawing):
    d_ap = drawing.PAIR[0]
    distances = {name: [d for d, _ in getattr(drawing, name)] for name in ("NEAR", "BAND", "FAR", "TOO_NEAR")}
    assert max(distances["NEAR"]) < d_ap
    assert d_ap < min(distances["BAND"]) <= max(distances["BAND"]) < d_ap + drawing.MARGIN < min(distances["FAR"])
    assert max(distances["TOO_NEAR"]) < drawing.LONELY[0]
    # The labels are next to these.
    assert min(distances["NEAR"]) == distances["NEAR"][0]
    assert min(distances["BAND"]) == distances["BAND"][0]
    assert max(distances["TOO_NEAR"]) == distances["TOO_NEAR"][-1]


def test_the_nearest_faces_are_shown_next_to_a_training_curve(tmp_path):
    first_run = load("first_run")
    points = np.array([[0.0, 0], [1, 0], [0.5, 0], [3, 0]])
    np.testing.assert_array_equal(first_run.neighbours(points, 0, 2), [2, 1])
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 0, "val_far_0.01": 0.02}\n{"step": 1, "loss": 0.2}\n{"step": 2, "loss": 0.1}\n')
    assert [line["step"] for lines in first_run.curve(metrics) for line in lines] == [1, 2, 0]
    faces = np.zeros((10, 8, 8, 3), np.uint8)
    first_run.first_run_figure(metrics, faces, np.arange(20.0).reshape(10, 2), tmp_path / "a.png", [0, 5])
    with Image.open(tmp_path / "a.png") as image:
        assert image.width >= 1000
