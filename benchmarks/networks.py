"""Trains all networks by the recipe, for the same minutes or steps each: Table 3 and Figure 4 on one machine.

    python -m benchmarks.networks --data faces --minutes 20 --lfw lfw_view1
    python -m benchmarks.networks --data faces --minutes 60 --config.model.dtype=bfloat16        (on a GPU)
    python -m benchmarks.networks --data faces --steps 1000 "--config.model.input_size=(64, 64)"

Every network trains at its own input size, or at that of `--config.model.input_size`, the cheapest first, on the
identities that `benchmarks.reproduce` trains on, and is judged in the same way. In the same minutes a small network
sees more faces; in the same steps all see the same faces, and a larger network takes longer. A network that fails is
named, and the others still run. Interrupted, the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.ending import Ended, exit_code
from benchmarks.machine import describe_machine, in_words
from benchmarks.recipe_runs import Task, heads_of, judge, judged, percent, seen, train
from facenet_jax import models
from facenet_jax.config import load_config
from facenet_jax.errors import InputError
from facenet_jax.runtime.files import write_whole
from facenet_jax.sweeps.launchers import Runner
from facenet_jax.training.health import has_collapsed
from facenet_jax.training.metrics import read_metrics

# Deeper networks collapse at the recipe's learning rate; NN4 also at a third of it, unless negatives are random
# semi-hard ones (docs/experiments/networks.md). NN1 to NN3 trained with these options at the first attempt.
_OWN = {
    "nns2": [],
    "nns1": ["--config.optimizer.learning_rate=0.0003"],
}
_OF_OTHERS = ["--config.optimizer.learning_rate=0.0003", "--config.loss.negatives=random_semi_hard"]
_HEADS = {"val_far_0.01": "VAL at FAR 1e-2", "val_far_0.001": "at 1e-3", "lfw_accuracy": "LFW View 1 DevTest"}


def own_options(network: str) -> list[str]:
    """The options of a network, which come before those of the command; with its own input size."""
    return [
        f"--config.model.name={network}",
        "--config.model.members=1",
        f"--config.model.input_size={models.NETWORKS[network].input_size}",
        *_OWN.get(network, _OF_OTHERS),
    ]


def row_of(network: str, task: Task) -> dict[str, Any]:
    """Trains and judges a network; returns its row.

    Raises:
      Ended: it failed, or was asked to stop.
    """
    own = own_options(network)
    config = load_config(task.config, [*own, *task.overrides])
    folder = task.out / network
    folder.mkdir(exist_ok=True)
    run = train(task, folder, seed=0, more=own)
    size = tuple(config.model.input_size)
    parameters, multiply_adds = models.totals(models.from_config(config.model), size)
    return judge(task, network, run, run) | {
        "network": network,
        "input_size": size,
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "collapsed": collapsed(run),
        **seen(run),
    }


def collapsed(run: Path) -> bool:
    """Whether the run ended in a collapse, by its spread."""
    spreads = [row["spread"] for row in read_metrics(run) if "spread" in row]
    return has_collapsed(spreads[-1], max(spreads))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, the best VAL first; networks that failed or collapsed come last, with a remark."""
    found = heads_of(rows, _HEADS)
    heads = ["network", "input", "parameters", "multiply-adds", "images/s", "minutes", "faces seen"]
    heads += found.values()
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in sorted(
        rows, key=lambda row: -row.get("val_far_0.01", row.get("area", -1.0)) + row.get("collapsed", False)
    ):
        if "failed" in row:
            cells = [row["network"].upper(), f"failed: exit code {row['failed']}", *[""] * (len(heads) - 2)]
        else:
            cells = [
                row["network"].upper() + ", collapsed" * row["collapsed"],
                "{}x{}".format(*row["input_size"]),
                f"{row['parameters']:,}",
                f"{row['multiply_adds']:,}",
                f"{row['images_per_second']:,.0f}",
                f"{row['minutes']:.1f}",
                f"{row['images']:,}",
                *[percent(row, key) for key in found],
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def report(task: Task, rows: list[dict[str, Any]], title: str) -> None:
    """Writes OUT/networks.html: a page of the judged networks with Table 3 and Figure 4, without pictures of faces.

    Raises:
      Ended: it failed, or was asked to stop.
    """
    folders = [str(judged(task, row["network"])) for row in rows if "failed" not in row]
    if folders:
        page = f"--output={task.out / 'networks.html'}"
        task.facenet("report", *folders, page, f"--title={title}", "--no-images")


def chosen(text: str) -> list[str]:
    """The networks named, the cheapest first.

    Raises:
      InputError: there is no such network.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in models.NETWORKS:
            raise InputError(f"--networks: there is no {name!r}; give some of {', '.join(models.NETWORKS)}.")

    def multiply_adds(name: str) -> int:
        config = load_config(name, [])
        return models.totals(models.from_config(config.model), tuple(config.model.input_size))[1]

    return sorted(dict.fromkeys(names), key=multiply_adds)


def main() -> None:
    """Trains, judges, and writes OUT/networks.{md,json,html} after every network.

    Raises:
      Ended: asked to stop, or some have failed.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder <identity>/<image>, or a prepared dataset")
    parser.add_argument("--minutes", type=float, default=20, help="of training, each (%(default)s)")
    parser.add_argument("--steps", type=int, help="of training, each, in place of the minutes")
    parser.add_argument("--networks", default=",".join(models.NETWORKS), help="(%(default)s)")
    parser.add_argument("--config", default="recipe_cpu", help="the recipe (%(default)s)")
    parser.add_argument("--lfw", type=Path, help="LFW's development view")
    parser.add_argument("--out", type=Path, help="where everything goes (runs/networks/<length>)")
    options, overrides = parser.parse_known_args()
    networks = chosen(options.networks)
    if any(option.startswith("--config.model.name=") for option in overrides):
        raise InputError("--config.model.name is what differs here; give --networks.")
    length = f"{options.minutes:g} minutes" if options.steps is None else f"{options.steps:,} steps"
    out = (options.out or Path("runs/networks") / length.replace(" ", "-").replace(",", "")).resolve()
    machine = describe_machine()
    rows: list[dict[str, Any]] = []
    own = [own_options(network) for network in networks]
    with (
        Runner() as run,
        Task(
            options.data.resolve(),
            out,
            options.minutes,
            options.config,
            overrides,
            options.lfw,
            run,
            steps=options.steps,
            own=own,
        ) as task,
    ):
        for network in networks:
            try:
                rows.append(row_of(network, task))
            except Ended as error:
                if run.asked is not None:
                    raise
                rows.append({"network": network, "failed": error.code})
            text = f"{length} each.\n\n{table(rows)}\n\n{in_words(machine)}\n"
            write_whole(out / "networks.md", text)
            write_whole(out / "networks.json", json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
            print(f"\n{text}", flush=True)
            report(task, rows, f"{length} each")
    if any("failed" in row for row in rows):
        raise Ended(1)


if __name__ == "__main__":
    sys.exit(exit_code("networks", main))
