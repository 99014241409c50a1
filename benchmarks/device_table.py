"""Writes the figures of benchmarks/device.py as Markdown, and judges them by their aims."""

from __future__ import annotations

from typing import Any

from benchmarks.machine import in_words
from benchmarks.triplets_table import in_bytes, in_time, table

# Aims: NN2's images a second over torch.compile's, NNS2's step alone over a whole run, seconds of selection at 1,800.
_OVER_TORCH, _OVER_RUN, _SELECTION = 1.3, 1.25, 1.5e-3
_RUNS = {
    "again": "repeated, the compiled program kept",
    "resumed": "killed and resumed, the compiled program kept",
    "compiled_again": "repeated, compiled again",
}


def aims(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Each aim in words, whether it was met (None if it was not measured), and the measured figure."""
    steps = {row["network"]: row["faces"] / row["seconds"] for row in found["networks"] if row["dtype"] == "bfloat16"}
    peers = {row["compiled"]: row["faces"] / row["seconds"] for row in found["peers"]}
    runs = {row["network"]: row["images_per_second"] for row in found["train"]}
    losses = {row["faces"]: row["seconds"] for row in found["triplets"]}
    kept = [found.get("same", {}).get(name, {}).get("same_bits") for name in ("again", "resumed")]

    def aim(words: str, value: float | None, met: bool, said: str) -> dict[str, Any]:
        return {"aim": words, "met": None if value is None else met, "measured": "" if value is None else said}

    torch = steps["nn2"] / peers[True] if "nn2" in steps and True in peers else None
    run = steps["nns2"] / runs["nns2"] if "nns2" in steps and "nns2" in runs else None
    selection = losses.get(1800)
    same = None if None in kept else float(all(kept))
    return [
        aim(f"NN2 {_OVER_TORCH} times torch.compile", torch, (torch or 0) >= _OVER_TORCH, f"{torch or 0:.2f} times"),
        aim(f"NNS2 end to end within {_OVER_RUN} of its step alone", run, (run or 0) <= _OVER_RUN, f"{run or 0:.2f}"),
        aim(
            f"selection, loss and gradient at 1,800 under {in_time(_SELECTION)}",
            selection,
            (selection or 0) < _SELECTION,
            in_time(selection or 0),
        ),
        aim(
            "with the compiled program kept, a repeated or resumed run is the same",
            same,
            same == 1,
            "the same" if same else "not the same",
        ),
    ]


def report(found: dict[str, Any]) -> str:
    """The whole page.

    Args:
      found: the content of the JSON file of benchmarks/device.py.
    """
    device = found["device"]
    parts = [
        "# On an accelerator",
        "At toy size, to test that it runs." if found["toy"] else "",
        f"`make bench-device`: {device['kind']}, one of {device['devices']}, in {found['seconds']:.0f} s. "
        f"{in_words(found['machine'])}",
    ]
    if found["networks"]:
        parts += ["## A training step", _networks(found["networks"]), _products(found["matrix_product"])]
    if found["peers"]:
        parts += ["## NN2's table with batch normalisation in PyTorch", _peers(found["peers"])]
    if found["triplets"]:
        parts += ["## Value and gradient of the triplet loss", _triplets(found["triplets"])]
    if found["train"]:
        parts += ["## `facenet-jax train`, drawn faces", _train(found["train"])]
    if "same" in found:
        parts += ["## The same run again", _same(found["same"])]
    if found["loader"]:
        parts += ["## The loader", _loader(found["loader"])]
    if found["aims"]:
        parts += ["## Aims", "\n".join(_line(aim) for aim in found["aims"])]
    if found["left_out"]:
        parts += ["## Left out", "\n".join(f"- {what}: {why}" for what, why in found["left_out"].items())]
    return "\n\n".join(filter(None, parts)) + "\n"


def _line(aim: dict[str, Any]) -> str:
    words = {True: "met", False: "MISSED", None: "not measured"}[aim["met"]]
    return f"- {words}: {aim['aim']}" + (f" ({aim['measured']})" if aim["measured"] else "")


def _networks(rows: list[dict[str, Any]]) -> str:
    head = ["network", "type", "batch", "step", "images/s", "of a matrix product", "memory", "compiled in"]
    return table(
        head,
        [
            [
                row["network"].upper(),
                row["dtype"],
                f"{row['faces']:,}",
                in_time(row["seconds"]),
                f"{row['faces'] / row['seconds']:,.0f}",
                f"{row['share_of_product']:.0%}",
                in_bytes(row["bytes"]),
                in_time(row["seconds_to_compile"]),
            ]
            for row in rows
        ],
    )


def _products(rates: dict[str, float]) -> str:
    said = ", ".join(f"{rate / 1e12:,.3g} TFLOP/s in {dtype}" for dtype, rate in rates.items())
    return f"A matrix product: {said}. An image is 6 operations a multiply-add; memory is the compiler's figure."


def _peers(rows: list[dict[str, Any]]) -> str:
    return table(
        ["", "batch", "step", "images/s", "first three steps"],
        [
            [
                "torch.compile" if row["compiled"] else "as written",
                f"{row['faces']:,}",
                in_time(row["seconds"]),
                f"{row['faces'] / row['seconds']:,.0f}",
                in_time(row["seconds_to_compile"]),
            ]
            for row in rows
        ],
    )


def _triplets(rows: list[dict[str, Any]]) -> str:
    head = ["faces", "ours", "floor", "ours / floor", "temporaries", "pytorch-metric-learning", "compiled in"]
    return table(
        head,
        [
            [
                f"{row['faces']:,}",
                in_time(row["seconds"]),
                in_time(row["floor"]),
                f"{row['seconds'] / row['floor']:.1f}",
                in_bytes(row["temporaries"]),
                in_time(row["miner"]) if "miner" in row else "",
                in_time(row["seconds_to_compile"]),
            ]
            for row in sorted(rows, key=lambda row: row["faces"])
        ],
    )


def _train(rows: list[dict[str, Any]]) -> str:
    return table(
        ["network", "steps", "images/s", "waiting for faces", "from start to end"],
        [
            [
                row["network"].upper(),
                f"{row['steps']:,}",
                f"{row['images_per_second']:,.0f}",
                f"{row['wait_share']:.0%}",
                in_time(row["run_seconds"]),
            ]
            for row in rows
        ],
    )


def _same(runs: dict[str, Any]) -> str:
    lines = [["the first", "", in_time(runs["first"]["seconds"])]]
    for name, words in _RUNS.items():
        run = runs[name]
        if "refused" in run:
            lines.append([words, run["refused"], ""])
            continue
        equal = "the same bits" if run["same_bits"] else "other parameters"
        if run["parts_at"] is not None:
            equal += f"; figures differ from step {run['parts_at']}"
        lines.append([words, equal, in_time(run["seconds"])])
    return table(["run", "compared with the first", "from start to end"], lines)


def _loader(rows: list[dict[str, Any]]) -> str:
    ordered = sorted(rows, key=lambda row: (-row["files"], row["workers"]))
    return table(
        ["files", "size", "workers", "loader, images/s", "bare decoder, images/s", "main process, microseconds a face"],
        [
            [
                f"{row['files']} px",
                f"{row['size']} px",
                str(row["workers"]),
                f"{row['loader']:,.0f}",
                f"{row['decoder']:,.0f}",
                f"{row['main_microseconds']:.1f}",
            ]
            for row in ordered
        ],
    )
