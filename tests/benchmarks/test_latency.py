"""The table of latencies."""

from benchmarks.latency import report


def test_every_case_is_a_row_with_its_ratio():
    case = {
        "network": "nns2",
        "input_size": (140, 116),
        "dtype": "int8",
        "bytes": 4_800_000,
        "seconds": 0.0012,
        "seconds_p10": 0.001,
        "seconds_p90": 0.002,
        "floor_seconds": 0.0004,
        "times_floor": 3.0,
    }
    found = {"rounds": 5, "product_multiply_adds_a_second": 5e10, "cases": [case, case | {"network": "nns1"}]}
    rows = report(found).splitlines()[-2:]
    assert rows[0] == "| NNS2 | 140x116 | int8 | 4.8 MB | 1.20 ms (1.00 to 2.00) | 0.40 ms | 3.0 | 30 ms |"
    assert rows[1].startswith("| NNS1 |")
    assert rows[1].endswith("| 3.0 |  |")
