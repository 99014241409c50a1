"""The table of steps."""

from benchmarks.step import report


def test_rates_are_of_medians_and_ratios_of_turns():
    found = {"nn4": {"at once": [0.02, 0.04, 0.02], "in parts": [0.01, 0.02, 0.02]}}
    assert report(found).splitlines()[2:] == [
        "| NN4 | 120 | at once | 50 | 1.00 |",
        "| NN4 | 120 | in parts | 50 | 2.00 |",
    ]
