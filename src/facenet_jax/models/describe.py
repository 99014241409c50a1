"""The table of a network in the form of Tables 1 and 2, computed without allocating it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from facenet_jax.models.layers import Columns, Conv, Inception, L2Pool, MaxoutDense, MaxPool
from facenet_jax.models.networks import Ensemble


@dataclass(frozen=True)
class Row:
    """One row of the table.

    `output` is the shape without the batch; `kernel` is kernel and stride as Table 1 writes them; `columns` are
    Table 2's, None for what is no Inception module; `multiply_adds` is what the paper calls FLOPS.
    """

    layer: str
    output: tuple[int, ...]
    kernel: str
    columns: Columns | None
    parameters: int
    multiply_adds: int


def describe(module: nn.Module, input_size: tuple[int, int]) -> list[Row]:
    """The rows of a network's table, one a named submodule (of each member of an ensemble), as they run.

    Counted as the paper counts: multiply-adds of one image, biases included (one parameter a channel, one add an
    output value), every piece of a maxout.

    Args:
      module: a network of this package: float32 [N, rows, columns, 3] -> [N, d].
      input_size: (rows, columns) in pixels.

    Raises:
      InputError: the input is too small.
    """
    rows: list[Row] = []
    depth = 2 if isinstance(module, Ensemble) else 1
    counts: dict[str, list[tuple[int, int]]] = {}

    def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        layer, path = context.module, context.module.path
        row = "/".join(path[:depth])
        if len(path) < depth or context.method_name != "__call__":
            return output
        own = [v for v in layer.variables.get("params", {}).values() if hasattr(v, "shape")]
        if own:
            parameters = sum(math.prod(v.shape) for v in own)
            # Every weight is multiplied once, and every bias added once, at each position of the output.
            positions = math.prod(output.shape[1:-1])
            counts.setdefault(row, []).append((parameters, parameters * positions))
        if len(path) == depth:
            parameters, multiply_adds = (sum(column) for column in zip((0, 0), *counts.get(row, []), strict=True))
            columns = layer.columns if isinstance(layer, Inception) else None
            kernel = _kernel(layer, args[0].shape)
            rows.append(Row(row, output.shape[1:], kernel, columns, parameters, multiply_adds))
        return output

    def initialise() -> Any:
        with nn.intercept_methods(watch):
            return module.init(jax.random.key(0), jnp.zeros((1, *input_size, 3), jnp.float32))

    jax.eval_shape(initialise)
    return rows


def totals(module: nn.Module, input_size: tuple[int, int]) -> tuple[int, int]:
    """(parameters, multiply-adds of one image) of a network at an input of (rows, columns) pixels."""
    rows = describe(module, input_size)
    return sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)


def format_table(rows: list[Row]) -> str:
    """The table as text: exact integers, next to them the paper's short form; the last line is the total."""
    inception = any(row.columns for row in rows)
    heads = ["layer", "output", "kernel, stride"]
    if inception:
        heads += ["1x1", "3x3 reduce", "3x3", "5x5 reduce", "5x5", "pool"]
    lines = [[*heads, "parameters", "", "multiply-adds", ""]]
    for row in rows:
        cells = [row.layer, "x".join(map(str, row.output)), row.kernel]
        if inception:
            cells += _cells(row.columns) if row.columns else [""] * 6
        lines.append(cells + _numbers(row.parameters, row.multiply_adds))
    total = _numbers(sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows))
    lines.append(["total"] + [""] * (len(heads) - 1) + total)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    # Words to the left, numbers to the right.
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 3 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def short_parameters(n: int) -> str:
    """A number of parameters as the paper prints it: 9K, 1.6M, 140M."""
    return f"{n / 1e3:.0f}K" if n < 999_500 else short_multiply_adds(n)


def short_multiply_adds(n: int) -> str:
    """A number of multiply-adds as the paper prints it: 0.1M, 115M, 1.6B."""
    if n < 9_950_000:
        return f"{n / 1e6:.1f}M"
    return f"{n / 1e6:.0f}M" if n < 999_500_000 else f"{n / 1e9:.1f}B"


def _kernel(layer: nn.Module, input_shape: tuple[int, ...]) -> str:
    if isinstance(layer, Conv):
        return f"{layer.kernel}x{layer.kernel}x{input_shape[-1]}, {layer.stride}"
    if isinstance(layer, MaxPool | L2Pool):
        return f"{layer.window}x{layer.window}, {layer.stride}"
    if isinstance(layer, MaxoutDense):
        return f"maxout p={layer.pieces}"
    return ""


def _cells(columns: Columns) -> list[str]:
    stride = f",{columns.stride}" if columns.stride > 1 else ""
    pool = columns.pool
    if columns.project:
        pool += f", {columns.project}p"
    elif pool:
        pool += f" 3x3{stride}"
    widths = (columns.conv1x1, columns.reduce3x3, columns.conv3x3, columns.reduce5x5, columns.conv5x5)
    strides = (stride, "", stride, "", stride)
    return [f"{width}{s}" if width else "" for width, s in zip(widths, strides, strict=True)] + [pool]


def _numbers(parameters: int, multiply_adds: int) -> list[str]:
    if not parameters:
        return [""] * 4
    return [f"{parameters:,}", short_parameters(parameters), f"{multiply_adds:,}", short_multiply_adds(multiply_adds)]
