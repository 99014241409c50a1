"""Writes the figures of benchmarks/triplets.py as Markdown."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.machine import in_words

_NAMES = {"ours": "ours", "floor": "floor", "tiled": "tiled form", "miner": "miner and loss"}


def report(results: dict[str, Any]) -> str:
    """The whole page.

    Args:
      results: the content of the JSON file of benchmarks/triplets.py.
    """
    limits, sizes = results["limits"], results["sizes"]
    by_size = {int(size): row["contenders"] for size, row in sizes.items()}
    parts = [
        "# Selection, loss and gradient",
        f"`make bench-triplets`. {in_words(results['machine'])}",
        "Value of the triplet loss and its gradient with respect to the embeddings, all positives with semi-hard "
        "negatives, margin 0.2, 128 dimensions, float32, on one batch. The floor is the Gram matrix, one pass over it "
        "and the gradient's two products. The tiled form is that of TensorFlow Addons, written in JAX; the miner and "
        "loss are pytorch-metric-learning's, which list every semi-hard triplet where the others take one a pair. "
        f"Each had {limits['threads']} threads.",
        "## Time",
        _times(sizes, by_size),
        "Medians of turns taken one after another; ratios are medians of the ratios of single turns.",
        "## Memory",
        _memory(by_size),
        "Ours, floor and tiled form: temporaries of the compiled program. Miner and loss: how much its process grew. "
        f"Out of memory: beyond {in_bytes(limits['memory'])} a process; in brackets what the compiled program "
        "asks for, or else what one copy of the tiles, or of the indices of all triplets, takes.",
        *_large(by_size),
        *_shares(results, by_size),
    ]
    return "\n\n".join(parts) + "\n"


def seconds(found: dict[str, Any]) -> float | None:
    """The median of a contender's turns."""
    taken = [second for second in found["seconds"] if second is not None]
    return float(np.median(taken)) if taken else None


def ratio(one: dict[str, Any], other: dict[str, Any]) -> float | None:
    """How many times longer one took: the median over turns that both had, or else the ratio of their medians."""
    paired = [a / b for a, b in zip(one["seconds"], other["seconds"], strict=False) if a is not None and b is not None]
    if len(paired) > 1:
        return float(np.median(paired))
    ours, theirs = seconds(one), seconds(other)
    return ours / theirs if ours is not None and theirs is not None else None


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    lines = ["| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) + " |"
             for line in (header, *rows)]  # fmt: skip
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|", *lines[1:]])


def in_time(value: float) -> str:
    """0.0123 -> 12.3 ms."""
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def in_bytes(count: float) -> str:
    """Bytes in units of 1,024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{_three_digits(count)} TiB"


def _times(sizes: dict[str, Any], by_size: dict[int, Any]) -> str:
    header = ["faces", "identities", "active", "ours", "floor", "ours / floor"]
    header += ["tiled form", "/ ours", "miner and loss", "/ ours"]
    rows = []
    for size, contenders in by_size.items():
        batch = sizes[str(size)]["batch"]
        ours = contenders["ours"]
        line = [f"{size:,}", f"{size // batch['faces_per_identity']:,} x {batch['faces_per_identity']}"]
        line.append(f"{batch['active'] / batch['pairs']:.0%}")
        line += [_time(ours), _time(contenders["floor"]), _ratio(ours, contenders["floor"])]
        for peer in ("tiled", "miner"):
            line += [_time(contenders[peer]), _ratio(contenders[peer], ours)]
        rows.append(line)
    return table(header, rows)


def _memory(by_size: dict[int, Any]) -> str:
    rows = []
    for size, contenders in by_size.items():
        line = [f"{size:,}"]
        for name, found in contenders.items():
            used = found["grown"] if name == "miner" else found["temporaries"]
            needs = f" ({in_bytes(found['needs'])})" if found["needs"] else ""
            line.append(f"{found['refused']}{needs}" if found["refused"] else in_bytes(used))
        rows.append(line)
    return table(["faces", *_NAMES.values()], rows)


def _large(by_size: dict[int, Any]) -> list[str]:
    """A sentence about the memory of the whole process with the largest batch."""
    size = max(by_size)
    found = by_size[size]["ours"]
    if found["refused"]:
        return []
    return [f"With {size:,} faces our whole process, JAX included, took {in_bytes(found['peak'])} at most."]


def _shares(results: dict[str, Any], by_size: dict[int, Any]) -> list[str]:
    """The share of selection and loss in a training step with the paper's batch."""
    if not results["steps"]:
        return []
    ours = seconds(by_size[1800]["ours"])
    assert ours is not None
    rows = []
    for network, step in results["steps"].items():
        of_face = step["seconds_per_face"]
        share = ours / (ours + 1800 * of_face)
        timed = f"{step['faces']} in {step['chunk']}s"
        rows.append([network.upper(), timed, in_time(of_face), in_time(1800 * of_face), f"{share:.2%}"])
    return [
        "## Of a training step",
        table(["network", "faces timed", "a face", "1,800 faces", "selection and loss"], rows),
        "Steps were timed with fewer faces, in chunks, at the network's own input size, and their time multiplied up "
        "to 1,800 faces; selection and loss is the time above for 1,800 as a share of both together.",
    ]


def _time(found: dict[str, Any]) -> str:
    value = seconds(found)
    return found["refused"] if value is None else in_time(value)


def _ratio(one: dict[str, Any], other: dict[str, Any]) -> str:
    value = ratio(one, other)
    return "" if value is None else _three_digits(value)


def _three_digits(value: float) -> str:
    """1.23, 12.3, 123 and 1,234."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
