"""Trains the recipe on a folder of faces for some minutes, and on request a PyTorch peer for as long; writes a table.

    python -m benchmarks.reproduce --data faces --minutes 40          (or `make reproduce DATA=faces MINUTES=40`)
    python -m benchmarks.reproduce --data faces --minutes 40 --peer --seeds 0,1,2 --lfw lfw_view1

150 identities with five faces or more (a third of them, if there are few) are set aside, the same ones each time, and
judged only at the end: VAL at a FAR over five splits of them (section 4.1). `--lfw` is a folder with
LFW's pairsDevTrain.txt, pairsDevTest.txt and the images in aligned112/: accuracy on DevTest with the threshold that is
best on DevTrain. The data are a folder <identity>/<image>, or what `facenet-jax prepare` made.

The schedule depends on the number of steps, so a short trial finds how many fit into the minutes; trial and evaluations
are not counted. recipe_cpu takes no more than its own steps (in proportion more with more faces than it was tuned on),
since it would overfit; another --config takes all that fit. `--peer` trains NN4 with batch normalisation in
PyTorch (benchmarks/peers), in an environment that the first call makes. Interrupted, the same command resumes: the
recipe from its last step, PyTorch from the beginning of its current seed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.ending import exit_code
from benchmarks.lines import ROOT
from benchmarks.machine import describe_machine, in_words
from benchmarks.peers.environment import peers_python
from benchmarks.peers.table import table_2
from benchmarks.recipe_runs import ALIGNED, TEST_PAIRS, Task, heads_of, judge, kept, percent, seen, train
from facenet_jax.datasets.folder import FolderSource
from facenet_jax.errors import InputError
from facenet_jax.evaluation.protocols.lfw import read_lfw_pairs
from facenet_jax.runtime.files import write_whole
from facenet_jax.sweeps.launchers import Runner

_DONE = "done.json"
_RECIPE = "recipe_cpu"


def yardstick(task: Task, python: Path, clock: str, seed: int) -> Path:
    """Trains the peer for the same minutes; returns the folder with its embeddings.

    Raises:
      InputError: it was trained by another clock before.
      Ended: it failed, or was asked to stop.
    """
    out = task.out / f"yardstick-{seed}"
    folders = {"reserved": task.aside.folder} | ({"lfw": task.lfw / ALIGNED} if task.lfw else {})
    if (out / _DONE).exists():
        done = kept(out / _DONE)
        if done["clock"] != clock:
            raise InputError(f"--clock={clock}: {out} was trained by --clock={done['clock']}; give that one.")
        if set(folders) <= set(done["judged"]):
            return out
        (out / _DONE).unlink()  # training again gives another network, and files of both would be mixed
    judged = {name: FolderSource(folder, singles=True) for name, folder in folders.items()}
    source = task.source
    assert isinstance(source, FolderSource)
    aside = set(os.listdir(task.aside.folder))
    job = {
        "train": [
            [source.describe(record) for record in range(int(first), int(end))]
            for name, (first, end) in zip(source.index.names, pairwise(source.index.offsets), strict=True)
            if name not in aside
        ],
        "minutes": [task.minutes * part / 4 for part in (1, 2, 3, 4)],
        "clock": clock,
        "seed": seed,
        "size": 96,
        "table": table_2(),
        "judged": {name: [faces.describe(n) for n in range(faces.index.records)] for name, faces in judged.items()},
        "names": {name: list(faces.places()) for name, faces in judged.items()},
        "out": str(out),
        "done": _DONE,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "job.json", json.dumps(job) + "\n")
    words = [str(python), "-m", "benchmarks.peers.yardstick", str(out / "job.json")]
    task.start(words, PYTHONPATH=os.pathsep.join([str(ROOT / "src"), str(ROOT)]))
    return out


def refuse_namesakes(task: Task) -> None:
    """Refuses LFW for the peer if it shows people of the training faces: only the recipe's evaluation leaves them out.

    Raises:
      InputError: somebody of LFW's test pairs has the name of somebody in the faces.
    """
    if task.lfw is None:
        return
    tested = set(read_lfw_pairs(task.lfw / TEST_PAIRS).people)
    both = sorted(tested & set(task.source.index.names))
    if both:
        raise InputError(
            f"--peer: {len(both):,} people of LFW's test pairs have the names of people in {task.data}, such as "
            f"{both[0]}, and PyTorch may have been trained on them; leave --lfw or --peer out, or remove them."
        )


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: the figures of one seed with standard errors, or of several the mean, the lowest and the highest."""
    heads = {
        "minutes": "minutes of training",
        "images": "faces seen",
        "val_far_0.01": "VAL at FAR 1e-2",
        "val_far_0.001": "VAL at FAR 1e-3",
        "lfw_accuracy": "LFW View 1 DevTest",
    }
    counts = {"minutes": "{:.1f}", "images": "{:,.0f}"}
    heads = heads_of([one for of_seeds in rows.values() for one in of_seeds], heads)
    lines = ["| | seeds | " + " | ".join(heads.values()) + " |", "|---|---|" + "---|" * len(heads)]
    for name, of_seeds in rows.items():
        cells = [str(len(of_seeds))]
        for key in heads:
            values = [one[key] for one in of_seeds if key in one]
            form = counts.get(key, "{:.1%}")
            if len(values) < 2 and key not in counts:
                cells.append(percent(next((one for one in of_seeds if key in one), {}), key))
                continue
            text = form.format(statistics.mean(values)) if values else "-"
            if key not in counts:
                text += f" ({form.format(min(values))} to {form.format(max(values))})"
            cells.append(text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Trains, judges, and writes OUT/reproduce.{md,json} after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder <identity>/<image>, or a prepared dataset")
    parser.add_argument("--minutes", type=float, default=40, help="of training (%(default)s)")
    parser.add_argument("--config", help=f"the recipe ({_RECIPE}, for no more than its own steps)")
    parser.add_argument("--seeds", default="0", help="such as 0,1,2 (%(default)s)")
    parser.add_argument("--lfw", type=Path, help="LFW's development view")
    parser.add_argument("--peer", action="store_true", help="train the PyTorch peer too")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="of the peer (%(default)s)")
    parser.add_argument("--out", type=Path, help="where everything goes (runs/reproduce/<minutes>)")
    options, overrides = parser.parse_known_args()
    seeds = seeds_of(options.seeds)
    recipe = options.config or _RECIPE
    out = (options.out or Path("runs/reproduce") / f"{options.minutes:g}").resolve()
    python: Path | None = None
    data = options.data.resolve()
    with (
        Runner() as run,
        Task(data, out, options.minutes, recipe, overrides, options.lfw, run, own_steps=not options.config) as task,
    ):
        if options.peer:
            if not isinstance(task.source, FolderSource):
                raise InputError(f"--peer reads folders <identity>/<image>, and {data} is a prepared dataset.")
            found = peers_python()
            if isinstance(found, str):
                raise InputError(f"--peer: {found}; fix that, or leave --peer out.")
            python = found
            refuse_namesakes(task)
        rows: dict[str, list[dict[str, Any]]] = {}
        for seed in seeds:
            trained = train(task, out, seed)
            row = judge(task, f"recipe-{seed}", trained, trained) | seen(trained)
            rows.setdefault(recipe, []).append(row)
            write(rows, out)
            if python is None:
                continue
            made = yardstick(task, python, options.clock, seed)
            for mark in kept(made / _DONE)["marks"]:
                name = f"yardstick-{seed}-{mark['asked']:g}"
                reserved, lfw = (made / f"{judged}-{mark['asked']:g}.npz" for judged in ("reserved", "lfw"))
                row = judge(task, name, reserved, lfw) | {"images": mark["images"], "minutes": mark["minutes"]}
                rows.setdefault(f"PyTorch, NN4 with batch norm, {mark['asked']:g} minutes", []).append(row)
            write(rows, out)
    print(f"\n{(out / 'reproduce.md').read_text()}\nwritten         {out / 'reproduce.md'}, reproduce.json")


def seeds_of(text: str) -> list[int]:
    """Whole numbers, each once.

    Raises:
      InputError: the text is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len({int(part) for part in parts}) < len(parts):
        raise InputError(f"--seeds={text}: give whole numbers, each once, such as 0,1,2.")
    return [int(part) for part in parts]


def write(rows: dict[str, list[dict[str, Any]]], out: Path) -> None:
    """Writes the table so far, as Markdown and as JSON."""
    machine = describe_machine()
    write_whole(out / "reproduce.md", f"{table(rows)}\n\n{in_words(machine)}\n")
    write_whole(out / "reproduce.json", json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(exit_code("reproduce", main))
