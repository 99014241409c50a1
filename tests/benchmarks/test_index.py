"""The benchmark of the index runs at a small size and writes its table."""

import pytest

from benchmarks.index import made_up, measure, report


def test_a_small_index():
    pytest.importorskip("faiss")
    found = measure(600, 16, 4, 2)
    assert found["same_nearest"] == 4
    assert 0 < found["largest_error"] <= found["error_at_most"]
    assert found["forms"]["float32"]["bytes"] > 3 * found["forms"]["int8"]["bytes"]
    text = report(found, {"date": "today", "processor": "one", "cores": 1, "memory_gib": 1, "system": "Linux"})
    assert "600 synthetic faces of 60 people" in text
    assert text.count("\n| ") == 4


def test_synthetic_faces_resemble_their_person():
    points, asked = made_up(200, 64, 20)
    distances = ((asked[:, None] - points) ** 2).sum(-1).reshape(20, 20, 10).mean(-1)
    assert distances.argmin(1).tolist() == list(range(20))
