"""Tables of protocols where few faces resolve little."""

from facenet_jax.evaluation.protocols.compact import _format_errors
from facenet_jax.evaluation.protocols.robustness import _format_quality


def test_what_a_rate_needs_stands_apart_from_the_papers():
    row = {"val": None, "pairs_needed": 1000, "different_pairs": 90, "paper": 0.673}
    resolved = {"val": 0.5, "paper": 0.673}
    table = _format_quality({"jpeg_quality": {10: row, 20: resolved}, "image_pixels": {}}, 0.001)
    assert "has 90 (67.3%)" in table
    assert "50.0%     (67.3%)" in table


def test_an_error_without_a_threshold_is_said_in_words():
    errors = {"step": 0.1, "clipped": 0, "coordinates": 10, "rounding": 0.1, "at_most": {}, "seen": 0.01}
    assert "no threshold was resolved to bound an error at; the largest error seen is 0.0100" in _format_errors(errors)
    said = _format_errors(errors | {"at_most": {"1.0000": 0.02}})
    assert "a squared distance is off by at most 0.0200 at a squared distance of 1.0000; the largest" in said
