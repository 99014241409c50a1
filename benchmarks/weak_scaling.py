"""Reads from compiled programs what each device sends in a step, for more and more devices with the same faces each.

Nothing runs: the whole training step is compiled for 1 to 512 simulated devices, and its collectives are read. Run:

    python -m benchmarks.weak_scaling --out benchmarks/results/weak_scaling
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from facenet_jax.evaluation.plot_style import BLUE, ORANGE, SKY, VERMILION, one_panel, save
from facenet_jax.planning.predict import by_purpose
from facenet_jax.planning.program import Program, compile_for

# The columns of the table, and the purposes that each adds up.
COLUMNS = {
    "embeddings": ("embeddings",),
    "gradient of the embeddings": ("gradient of the embeddings",),
    "labels and sums": ("labels", "sums of the loss"),
    "gradient of the parameters": ("gradient of the parameters",),
}

_CAPTION = """\
What one device sends in a step, in bytes, for more and more devices with the same number of faces on each. The memory
of a device is in bytes, the arithmetic of the loss in operations. All come from programs for simulated CPU devices."""


def sent(program: Program) -> dict[str, float]:
    """Bytes that a device sends in a step, by column; raises KeyError for an unknown purpose."""
    column = {purpose: name for name, purposes in COLUMNS.items() for purpose in purposes}
    totals = dict.fromkeys(COLUMNS, 0.0)
    for _, purpose, _, count in by_purpose(program):
        totals[column[purpose]] += count
    return totals


def table(programs: list[Program]) -> str:
    """Markdown, bytes of one device in a step."""
    heads = ["devices", "faces in the batch", *COLUMNS, "memory of a device", "arithmetic of the loss"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
    for p in programs:
        cells = [f"{p.devices:,}", f"{p.rows:,}", *(f"{value:,.0f}" for value in sent(p).values())]
        cells += [f"{p.memory:,}", f"{p.loss_arithmetic:.2e}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def picture(programs: list[Program], path: Path) -> None:
    """Draws bytes sent against devices, both logarithmic."""
    figure, axes = one_panel(7, 4.5)
    several = [p for p in programs if p.devices > 1]
    # Embeddings and their gradient have the same number of bytes: one mark is drawn around the other.
    styles = ((BLUE, "o", 10), (SKY, "s", 5), (ORANGE, "D", 6), (VERMILION, "^", 7))
    for name, (colour, marker, size) in zip(COLUMNS, styles, strict=True):
        bytes_sent = [sent(p)[name] for p in several]
        axes.loglog([p.devices for p in several], bytes_sent, color=colour, marker=marker, markersize=size, label=name)
    axes.set_xticks([p.devices for p in several], [str(p.devices) for p in several])
    axes.minorticks_off()
    axes.set_xlabel(f"devices, {several[0].rows // several[0].devices} faces on each")
    axes.set_ylabel("bytes that a device sends in a step")
    axes.legend(frameon=False)
    save(figure, path)


def main() -> None:
    """Writes OUT.md, OUT.json and OUT.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="nns2")
    parser.add_argument("--faces", type=int, default=32, help="on each device")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/weak_scaling"))
    options = parser.parse_args()
    programs = []
    for devices in options.devices:
        batch = [f"--config.batch.size={options.faces * devices}", "--config.batch.random_negatives=0"]
        programs.append(compile_for(options.config, batch, devices))
        print(devices, sent(programs[-1]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".md").write_text(f"# Weak scaling\n\n{_CAPTION}\n\n{table(programs)}")
    options.out.with_suffix(".json").write_text(json.dumps([asdict(p) for p in programs], indent=1) + "\n")
    picture(programs, options.out.with_suffix(".png"))
    print(table(programs))


if __name__ == "__main__":
    main()
