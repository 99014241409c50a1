"""A few faces of a few people, and the table of their distances on the page."""

import re

import numpy as np

from facenet_jax.evaluation.few_faces import few_faces
from facenet_jax.report.galleries import Square
from facenet_jax.report.page import templates

LABELS = np.array(["eve", "ada", "eve", "bob", "ada", "ada", "eve", "ada", "bob"])


def distances(names, images, people, values, threshold):
    """The table's HTML on the page."""
    square = Square("", names, images, people, values, threshold)
    return templates().get_template("parts.html").module.square(square).strip()


KEYS = [f"{name}/{number}" for number, name in enumerate(LABELS)]


def test_the_first_pictures_of_the_first_people_who_have_enough():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 4)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    few = few_faces(points, LABELS, KEYS)
    assert few["keys"] == ["eve/0", "eve/2", "eve/6", "ada/1", "ada/4", "ada/5"]
    assert few["people"] == [0, 0, 0, 1, 1, 1]
    chosen = points[[0, 2, 6, 1, 4, 5]]
    expected = [[float(np.sum((a - b) ** 2)) for b in chosen] for a in chosen]
    np.testing.assert_allclose(few["distances"], expected, atol=1e-4)


def test_nobody_with_enough_pictures_gives_no_square():
    few = few_faces(np.eye(4, dtype=np.float32), np.arange(4), list("abcd"))
    assert few == {"keys": [], "people": [], "distances": []}
    assert distances([], [], [], [], 1.0) == ""


def test_the_square_tints_same_pairs_and_frames_wrong_ones():
    values = [[0.0, 0.9, 0.4], [0.9, 0.0, 1.3], [0.4, 1.3, 0.0]]
    square = distances(["a/<1>", "a/2", "b/1"], ["", "data:x", ""], [0, 0, 1], values, 0.5)
    cells = re.findall(r'<td class="([^"]*)" title="([^"]*)">([\d.]*)</td>', square)
    found = {title: (kinds, shown) for kinds, title, shown in cells}
    assert found["a/&lt;1&gt; / a/2"] == ("same wrong", "0.90")
    assert found["a/&lt;1&gt; / b/1"] == ("wrong", "0.40")
    assert found["a/2 / b/1"] == ("", "1.30")
    assert found["a/2 / a/2"] == ("same", "")
    assert square.count('src="data:x"') == 2
