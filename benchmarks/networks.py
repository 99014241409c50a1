"""All networks, each for the same minutes, by the recipe: the paper's Table 3 and Figure 4 as far as a machine goes.

    python -m benchmarks.networks --data photos --minutes 20 --lfw lfw_view1
    python -m benchmarks.networks --data photos --minutes 60 --config.model.dtype=bfloat16        (on a GPU)

Every network trains at its own input size, or at `--size` for all, on the identities that `benchmarks.reproduce` leaves
it, and is judged as there. Faces seen differ: that is what the same minutes mean. What is finished is found again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, in_words
from benchmarks.reproduce import judge, reserve, train
from facenet_jax import models
from facenet_jax.config import load_config
from facenet_jax.training.metrics import read_metrics


def row_of(network: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trains and judges one; its row."""
    size = (options.size, options.size) if options.size else models.NETWORKS[network].input_size
    own = argparse.Namespace(**vars(options))
    own.out = options.out / network
    own.overrides = [f"--config.model.name={network}", f"--config.model.input_size={size}", *options.overrides]
    reserve(own.data, own.out)
    run = train(own, seed=0)
    found = judge(own, network, run, run if own.lfw else None)
    log = read_metrics(run)
    config = load_config(own.config, own.overrides)
    parameters, multiply_adds = models.totals(models.from_config(config.model), size)
    rates = [row["images_per_second"] for row in log if "images_per_second" in row]
    return found | {
        "network": network,
        "input_size": size,
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "images_per_second": rates[-1],
        "images": log[-1]["step"] * config.batch.size,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, the best VAL first."""
    with_lfw = "lfw_accuracy" in rows[0]
    heads = ["network", "input", "parameters", "multiply-adds", "images/s", "faces seen", "VAL at FAR 1e-2", "at 1e-3"]
    heads += ["LFW View 1 DevTest"] * with_lfw
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in sorted(rows, key=lambda row: -row["val_far_0.01"]):
        cells = [
            row["network"].upper(),
            "{}x{}".format(*row["input_size"]),
            f"{row['parameters']:,}",
            f"{row['multiply_adds']:,}",
            f"{row['images_per_second']:,.0f}",
            f"{row['images']:,}",
        ]
        for key in ("val_far_0.01", "val_far_0.001", *["lfw_accuracy"] * with_lfw):
            cells.append(f"{row[key]:.1%} ± {100 * row['standard_errors'][key]:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Trains, judges, and writes OUT/networks.{md,json} after every network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder <identity>/<image>")
    parser.add_argument("--minutes", type=float, default=20, help="of training, each (%(default)s)")
    parser.add_argument("--networks", default=",".join(models.NETWORKS), help="(%(default)s)")
    parser.add_argument("--size", type=int, default=0, help="pixels a side for all (each network's own)")
    parser.add_argument("--config", default="recipe_cpu", help="the recipe (%(default)s)")
    parser.add_argument("--lfw", type=Path, help="LFW's development view")
    parser.add_argument("--out", type=Path, help="where everything goes (runs/networks/<minutes>)")
    options, options.overrides = parser.parse_known_args()
    options.data = options.data.resolve()
    options.out = (options.out or Path("runs/networks") / f"{options.minutes:g}").resolve()
    machine = describe_machine()
    rows: list[dict[str, Any]] = []
    for network in options.networks.split(","):
        rows.append(row_of(network, options))
        text = f"{options.minutes:g} minutes each.\n\n{table(rows)}\n\n{in_words(machine)}\n"
        (options.out / "networks.md").write_text(text)
        (options.out / "networks.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
        print(f"\n{text}", flush=True)


if __name__ == "__main__":
    main()
