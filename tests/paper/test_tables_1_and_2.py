"""The networks have the figures that the paper prints: every row of Tables 1 and 2, every total of section 3.3."""

import pytest

from facenet_jax.models import NETWORKS, build, describe, format_table, totals
from facenet_jax.models.describe import short_multiply_adds, short_parameters
from facenet_jax.models.networks import NNS1_TABLE, TABLE_2

# layer, output, kernel and stride, params, FLOPS, as printed. (The table prints fc outputs as 1x32x128 and 1x1x128.)
TABLE_1 = """
conv1   110x110x64  7x7x3,2    9K    115M
pool1   55x55x64    3x3,2
rnorm1  55x55x64
conv2a  55x55x64    1x1x64,1   4K    13M
conv2   55x55x192   3x3x64,1   111K  335M
rnorm2  55x55x192
pool2   28x28x192   3x3,2
conv3a  28x28x192   1x1x192,1  37K   29M
conv3   28x28x384   3x3x192,1  664K  521M
pool3   14x14x384   3x3,2
conv4a  14x14x384   1x1x384,1  148K  29M
conv4   14x14x256   3x3x384,1  885K  173M
conv5a  14x14x256   1x1x256,1  66K   13M
conv5   14x14x256   3x3x256,1  590K  116M
conv6a  14x14x256   1x1x256,1  66K   13M
conv6   14x14x256   3x3x256,1  590K  116M
pool4   7x7x256     3x3,2
concat  12544
fc1     4096        maxoutp=2  103M  103M
fc2     4096        maxoutp=2  34M   34M
fc7128  128         -          524K  0.5M
L2      128
"""

# layer, output size, params, FLOPS, as printed; where one printed row is two layers, each is named.
TABLE_2_PRINTED = """
conv1        112x112x64  9K    119M
pool1        56x56x64
norm1        56x56x64
inception2   56x56x192   115K  360M
norm2        56x56x192
pool2        28x28x192
inception3a  28x28x256   164K  128M
inception3b  28x28x320   228K  179M
inception3c  14x14x640   398K  108M
inception4a  14x14x640   545K  107M
inception4b  14x14x640   595K  117M
inception4c  14x14x640   654K  128M
inception4d  14x14x640   722K  142M
inception4e  7x7x1024    717K  56M
inception5a  7x7x1024    1.6M  78M
inception5b  7x7x1024    1.6M  78M
avg_pool     1024
fc           128         131K  0.1M
L2           128
"""


def network(name, **options):
    return build(name, **options), NETWORKS[name].input_size


def size(row):
    return "x".join(map(str, row.output))


def figures(row):
    return [short_parameters(row.parameters), short_multiply_adds(row.multiply_adds)] if row.parameters else []


def test_every_row_of_table_1():
    printed = [line.split() for line in TABLE_1.strip().splitlines()]
    rows = describe(*network("nn1"))
    assert [row.layer for row in rows] == [line[0] for line in printed]
    for row, (layer, output, *rest) in zip(rows, printed, strict=True):
        assert size(row) == output, layer
        assert [row.kernel.replace(" ", "") or "-", *figures(row)] == (rest or ["-"]), layer


def test_every_row_of_table_2():
    printed = [line.split() for line in TABLE_2_PRINTED.strip().splitlines()]
    rows = describe(*network("nn2"))
    assert [row.layer for row in rows] == [line[0] for line in printed]
    for row, (layer, output, *rest) in zip(rows, printed, strict=True):
        assert size(row) == output, layer
        if layer == "inception4a":
            # The one figure of both tables that the paper cut instead of rounding.
            assert row.parameters == 545_536
            assert rest == ["545K", figures(row)[1]]
        else:
            assert figures(row) == rest, layer


@pytest.mark.parametrize(
    ("name", "options", "parameters", "multiply_adds"),
    [
        ("nn1", {}, 140_025_664, 1_608_287_104),
        ("nn2", {}, 7_456_304, 1_599_771_872),
        ("nn4", {}, 6_607_888, 285_330_432),
        ("nn4", {"five_by_five": "none"}, 5_965_728, 252_516_864),  # Table 6's network: about 6.0M and 252M
    ],
)
def test_exact_totals(name, options, parameters, multiply_adds):
    assert totals(*network(name, **options)) == (parameters, multiply_adds)


@pytest.mark.parametrize(
    ("name", "options", "parameters", "multiply_adds"),
    [
        ("nn1", {}, "140M", "1.6B"),
        ("nn2", {}, "7.5M", "1.6B"),
        ("nn3", {}, "7.5M", "816M"),  # the paper prints no multiply-adds for NN3
        ("nn4", {}, "6.6M", "285M"),
        ("nns1", {}, "26M", "220M"),
        ("nns2", {}, "4.3M", "20M"),
    ],
)
def test_totals_as_printed(name, options, parameters, multiply_adds):
    last = format_table(describe(*network(name, **options))).splitlines()[-1].split()
    assert [last[0], last[2], last[4]] == ["total", parameters, multiply_adds]


@pytest.mark.parametrize(("name", "parameters", "multiply_adds"), [("nns1", 26e6, 220e6), ("nns2", 4.3e6, 20e6)])
def test_the_reconstructions_meet_both_totals_within_one_percent(name, parameters, multiply_adds):
    counted = totals(*network(name))
    assert counted == (pytest.approx(parameters, rel=0.01), pytest.approx(multiply_adds, rel=0.01))


def test_nns1_is_table_2_at_half_width():
    for row, columns in NNS1_TABLE.items():
        whole = TABLE_2[row]
        for column in ("conv1x1", "reduce3x3", "conv3x3", "reduce5x5", "conv5x5", "project"):
            assert 2 * getattr(columns, column) == getattr(whole, column), (row, column)
        assert (columns.pool, columns.stride) == (whole.pool, whole.stride)
