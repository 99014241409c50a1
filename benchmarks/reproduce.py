"""The recipe on a folder of faces for so many minutes, beside what people use today for as many; one table.

    python -m benchmarks.reproduce --data photos --minutes 40          (or `make reproduce DATA=photos MINUTES=40`)
    python -m benchmarks.reproduce --data photos --minutes 40 --peer --seeds 0,1,2 --lfw lfw_view1

150 identities with five faces or more are set aside, the same ones each time, and judged at the end and never before:
VAL at a FAR over five splits of them (section 4.1). `--lfw` is a folder with LFW's pairsDevTrain.txt, pairsDevTest.txt
and the images in aligned112/: accuracy on DevTest with the threshold that is best on DevTrain.

The schedule wants to know its number of steps, so a short trial finds how many fit into the minutes; the trial is not
counted, and neither are evaluations. `--peer` trains NN4 with batch normalisation in PyTorch (benchmarks/peers), in
the environment that the first call makes. What is finished is found again: the same command goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.lines import ROOT
from benchmarks.machine import describe_machine, in_words
from benchmarks.peers.environment import peers_python
from benchmarks.peers.table import nn4_table
from facenet_jax.config import load_config
from facenet_jax.training.metrics import read_metrics

RESERVED, MIN_FACES = 150, 5
_TRIAL_STEPS = 30
_ALIGNED = "aligned112"


def reserve(data: Path, folder: Path) -> Path:
    """Links the identities that are set aside into `<folder>/reserved`, and lists them in reserved.txt beside it."""
    if not data.is_dir():
        sys.exit(f"--data={data} is no folder; give one with <identity>/<image>.")
    people = {p.name: p for p in data.iterdir() if p.is_dir() and len(os.listdir(p)) >= MIN_FACES}
    if len(people) < 2 * RESERVED:
        sys.exit(f"{data} has {len(people)} identities with {MIN_FACES} faces; {2 * RESERVED} are needed.")
    chosen = sorted(people, key=lambda n: hashlib.blake2b(os.fsencode(n), key=b"reserved").digest())[:RESERVED]
    (folder / "reserved").mkdir(parents=True, exist_ok=True)
    for name in chosen:
        link = folder / "reserved" / name
        if not link.is_symlink():
            link.symlink_to(people[name].resolve())
    (folder / "reserved.txt").write_text("\n".join(sorted(chosen)) + "\n")
    return folder / "reserved"


def train(options: argparse.Namespace, seed: int) -> Path:
    """The recipe, for as many steps as fit into the minutes; the run's folder."""
    base = [
        f"--config.data.path={options.data}",
        f"--config.data.exclude={options.out / 'reserved.txt'}",
        f"--config.eval.path={options.out / 'reserved'}",
        "--config.eval.every=0",
        f"--config.seed={seed}",
        *options.overrides,
    ]
    config = load_config(options.config, base)
    steps_file = options.out / "steps.json"
    if not steps_file.exists():
        trial = options.out / "trial"
        schedule = ["--config.optimizer.finalise_steps=0", "--config.optimizer.warmup_steps=0"]
        _facenet("train", f"--config={options.config}", f"--workdir={trial}", *base, *schedule, *_steps(_TRIAL_STEPS))
        rate = [row["images_per_second"] for row in read_metrics(trial) if "images_per_second" in row][-1]
        steps = max(int(options.minutes * 60 * rate / config.batch.size), 2)
        steps_file.write_text(json.dumps({"steps": steps, "images_per_second": rate}) + "\n")
    steps = json.loads(steps_file.read_text())["steps"]
    shares = config.optimizer.finalise_steps / config.steps, config.optimizer.warmup_steps / config.steps
    schedule = [
        f"--config.optimizer.{key}={int(share * steps)}"
        for key, share in zip(("finalise_steps", "warmup_steps"), shares, strict=True)
    ]
    run = options.out / f"recipe-{seed}"
    _facenet("train", f"--config={options.config}", f"--workdir={run}", *base, *schedule, *_steps(steps))
    return run


def yardstick(options: argparse.Namespace, seed: int) -> Path:
    """The peer, for the same minutes; the folder with the embeddings that it gave."""
    out = options.out / f"yardstick-{seed}"
    minutes = [options.minutes * part / 4 for part in (1, 2, 3, 4)]
    if not all((out / f"reserved-{m:g}.npz").exists() for m in minutes):
        folders = {"reserved": options.out / "reserved"}
        if options.lfw:
            folders["lfw"] = options.lfw / _ALIGNED
        files = {name: sorted(f for f in folder.glob("*/*") if f.is_file()) for name, folder in folders.items()}
        job = {
            "data": str(options.data),
            "exclude": (options.out / "reserved.txt").read_text().split(),
            "minutes": minutes,
            "clock": options.clock,
            "seed": seed,
            "size": 96,
            "table": nn4_table(),
            "judged": {name: [str(f) for f in files[name]] for name in files},
            "names": {name: [str(f.relative_to(folders[name])) for f in files[name]] for name in files},
            "out": str(out),
        }
        out.mkdir(parents=True, exist_ok=True)
        (out / "job.json").write_text(json.dumps(job) + "\n")
        python = peers_python()
        if isinstance(python, str):
            sys.exit(python)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
        command = [python, "-m", "benchmarks.peers.yardstick", out / "job.json"]
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=sys.stderr)
    return out


def judge(options: argparse.Namespace, name: str, reserved: Path, lfw: Path | None) -> dict[str, Any]:
    """VAL on the reserved identities and accuracy on LFW of a run or of files of embeddings, with standard errors."""
    out = options.out / "judged" / name
    _facenet("evaluate", "holdout", f"--embedder={reserved}", f"--data={options.out / 'reserved'}", f"--out={out}")
    rates = json.loads((out / "holdout.json").read_text())["embedders"][0]["result"]["rates"]
    found = {f"val_far_{rate['far']:g}": rate["val"] for rate in rates}
    errors = {f"val_far_{rate['far']:g}": rate["standard_error"] for rate in rates}
    if lfw is not None:
        pairs = [
            f"--data={options.lfw / _ALIGNED}",
            f"--pairs={options.lfw / 'pairsDevTest.txt'}",
            f"--threshold-pairs={options.lfw / 'pairsDevTrain.txt'}",
        ]
        _facenet("evaluate", "lfw", f"--embedder={lfw}", *pairs, f"--out={out}")
        document = json.loads(next(out.glob("lfw*.json")).read_text())
        result = document["embedders"][0]["result"]
        found["lfw_accuracy"], errors["lfw_accuracy"] = result["accuracy"], result["standard_error"]
    return found | {"standard_errors": errors}


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: one seed's figures with standard errors; of several the mean, and from the lowest to the highest."""
    heads = {
        "images": "faces seen",
        "val_far_0.01": "VAL at FAR 1e-2",
        "val_far_0.001": "VAL at FAR 1e-3",
        "lfw_accuracy": "LFW View 1 DevTest",
    }
    keys = [key for key in heads if key in next(iter(rows.values()))[0]]
    lines = ["| | seeds | " + " | ".join(heads[key] for key in keys) + " |", "|---|---|" + "---|" * len(keys)]
    for name, of_seeds in rows.items():
        cells = [str(len(of_seeds))]
        for key in keys:
            values = [one[key] for one in of_seeds]
            form = "{:,.0f}" if key == "images" else "{:.1%}"
            text = form.format(statistics.mean(values))
            if len(values) > 1 and key != "images":
                text += f" ({form.format(min(values))} to {form.format(max(values))})"
            elif key in of_seeds[0]["standard_errors"]:
                text += f" ± {100 * of_seeds[0]['standard_errors'][key]:.1f}"
            cells.append(text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Trains, judges, and writes OUT/reproduce.{md,json}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder <identity>/<image>")
    parser.add_argument("--minutes", type=float, default=40, help="of training (%(default)s)")
    parser.add_argument("--config", default="recipe_cpu", help="the recipe (%(default)s)")
    parser.add_argument("--seeds", default="0", help="such as 0,1,2 (%(default)s)")
    parser.add_argument("--lfw", type=Path, help="LFW's development view")
    parser.add_argument("--peer", action="store_true", help="train the PyTorch peer too")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="of the peer (%(default)s)")
    parser.add_argument("--out", type=Path, help="where everything goes (runs/reproduce/<minutes>)")
    options, options.overrides = parser.parse_known_args()
    options.data = options.data.resolve()
    options.out = (options.out or Path("runs/reproduce") / f"{options.minutes:g}").resolve()
    reserve(options.data, options.out)

    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in map(int, options.seeds.split(",")):
        run = train(options, seed)
        found = judge(options, f"recipe-{seed}", run, run if options.lfw else None)
        config = load_config(options.config, options.overrides)
        last = read_metrics(run)[-1]["step"]
        rows.setdefault("recipe", []).append(found | {"images": last * config.batch.size})
        if options.peer:
            made = yardstick(options, seed)
            log = [json.loads(line) for line in (made / "log.jsonl").read_text().splitlines()]
            for minutes, images in ((line["minutes"], line["images"]) for line in log if "minutes" in line):
                reserved, lfw = (made / f"{name}-{minutes:g}.npz" for name in ("reserved", "lfw"))
                found = judge(options, f"yardstick-{seed}-{minutes:g}", reserved, lfw if options.lfw else None)
                name = f"PyTorch, NN4 with batch norm, {minutes:g} minutes"
                rows.setdefault(name, []).append(found | {"images": images})
    machine = describe_machine()
    text = f"{options.minutes:g} minutes each.\n\n{table(rows)}\n\n{in_words(machine)}\n"
    (options.out / "reproduce.md").write_text(text)
    (options.out / "reproduce.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    print(f"\n{text}\nwritten         {options.out / 'reproduce.md'}, reproduce.json")


def _steps(steps: int) -> list[str]:
    return [f"--config.steps={steps}", f"--config.checkpoint.every={max(steps // 4, 1)}"]


def _facenet(*arguments: str) -> None:
    command = [sys.executable, "-m", "facenet_jax", *map(str, arguments)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
