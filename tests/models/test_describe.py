"""The table of a network's layers, compared with its parameters and with the paper's layout."""

import math

import jax
import jax.numpy as jnp
import pytest

from facenet_jax.models import NETWORKS, build, describe, format_table, totals
from facenet_jax.models.describe import short_multiply_adds, short_parameters


@pytest.mark.parametrize("size", [(32, 32), (75, 50)])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_counted_parameters_are_those_of_the_network(name, size):
    network = build(name, embedding_size=64)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *size, 3)))["params"]
    by_row = {row: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) for row, tree in shapes.items()}
    rows = describe(network, size)
    assert {row.layer: row.parameters for row in rows if row.parameters} == by_row
    assert totals(network, size)[0] == sum(by_row.values())


def test_an_ensemble_has_the_rows_of_each_member():
    alone = describe(build("nns2", embedding_size=64), (32, 32))
    rows = describe(build("nns2", members=2), (32, 32))
    assert [row.layer for row in rows] == [f"member{number}/{row.layer}" for number in (0, 1) for row in alone]
    assert [row.parameters for row in rows] == 2 * [row.parameters for row in alone]
    assert [row.multiply_adds for row in rows] == 2 * [row.multiply_adds for row in alone]


def test_multiply_adds_grow_with_the_positions():
    small, large = (describe(build("nn2"), (side, side)) for side in (64, 128))
    for a, b in zip(small, large, strict=True):
        assert b.multiply_adds == (a.multiply_adds if a.layer == "fc" else 4 * a.multiply_adds)
        assert b.parameters == a.parameters


def test_the_table_reads_like_table_2():
    lines = format_table(describe(build("nn2"), NETWORKS["nn2"].input_size)).splitlines()
    cells = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}
    heads = " ".join(lines[0].split())
    assert heads == "layer output kernel, stride 1x1 3x3 reduce 3x3 5x5 reduce 5x5 pool parameters multiply-adds"
    assert cells["conv1"] == "112x112x64 7x7x3, 2 9,472 9K 118,816,768 119M"
    assert cells["norm1"] == "56x56x64"
    assert cells["inception3b"] == "28x28x320 64 96 128 32 64 L2, 64p 227,776 228K 178,576,384 179M"
    assert cells["inception3c"] == "14x14x640 128 256,2 32 64,2 m 3x3,2 397,792 398K 108,166,912 108M"
    assert lines[-1].split() == ["total", "7,456,304", "7.5M", "1,599,771,872", "1.6B"]


def test_a_network_without_inception_has_no_such_columns():
    lines = format_table(describe(build("nn1"), NETWORKS["nn1"].input_size)).splitlines()
    assert lines[0].split() == ["layer", "output", "kernel,", "stride", "parameters", "multiply-adds"]
    assert lines[-1].startswith("total")


@pytest.mark.parametrize(
    ("n", "parameters", "multiply_adds"),
    [
        (524_416, "524K", "0.5M"),
        (999_499, "999K", "1.0M"),
        (999_500, "1.0M", "1.0M"),
        (9_949_999, "9.9M", "9.9M"),
        (9_950_000, "10M", "10M"),
        (999_499_999, "999M", "999M"),
        (999_500_000, "1.0B", "1.0B"),
    ],
)
def test_short_numbers(n, parameters, multiply_adds):
    assert (short_parameters(n), short_multiply_adds(n)) == (parameters, multiply_adds)
