"""The benchmark of an accelerator runs at toy size on a CPU, names missed aims, and compares repeated runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.device import chosen
from benchmarks.device_runs import Commands, compared, same_again
from benchmarks.device_table import aims, report
from benchmarks.lines import Refused
from facenet_jax.errors import InputError

ROOT = Path(__file__).parents[2]
NOTHING = {"networks": [], "peers": [], "triplets": [], "train": [], "loader": [], "left_out": {}, "toy": False}


def bench(*arguments):
    command = [sys.executable, "-m", "benchmarks.device", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_runs_at_toy_size(tmp_path):
    done = bench("--toy", "--only=networks,triplets,train,loader", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "device.json").read_text())
    assert {(row["network"], row["dtype"]) for row in found["networks"]} == {("nns2", "bfloat16"), ("nns2", "float32")}
    assert all(row["seconds"] > 0 and row["bytes"] > 0 and row["share_of_product"] > 0 for row in found["networks"])
    assert found["triplets"][0]["floor"] > 0
    assert found["train"][0]["images_per_second"] > 0
    assert found["loader"][0]["loader"] > 0
    assert not [what for what in found["left_out"] if "pytorch" not in what]
    assert found["aims"] == []
    assert (tmp_path / "device.md").read_text() in done.stdout


def test_without_an_accelerator_it_is_one_sentence(tmp_path):
    done = bench(f"--out={tmp_path}")
    assert done.returncode == 2
    assert "JAX finds no accelerator here" in done.stderr
    assert not list(tmp_path.iterdir())


def test_there_is_no_such_part():
    with pytest.raises(InputError, match="no part 'network'; give some of networks, peers"):
        chosen("triplets,network")


def test_aims_are_met_missed_or_not_measured():
    found = NOTHING | {
        "networks": [
            {"network": "nn2", "dtype": "bfloat16", "faces": 480, "seconds": 0.04},
            {"network": "nn2", "dtype": "float32", "faces": 480, "seconds": 0.001},
        ],
        "peers": [{"compiled": False, "faces": 480, "seconds": 1.0}, {"compiled": True, "faces": 480, "seconds": 0.05}],
        "triplets": [{"faces": 1800, "seconds": 1e-3}, {"faces": 7200, "seconds": 1.0}],
        "train": [{"network": "nns2", "images_per_second": 100.0}],
        "same": {"again": {"same_bits": True}, "resumed": {"same_bits": False}},
    }
    assert [(aim["met"], aim["measured"]) for aim in aims(found)] == [
        (False, "1.25 times"),
        (None, ""),  # no step of NNS2
        (True, "1 ms"),
        (False, "not the same"),
    ]
    machine = {"processor": "one", "cores": 1, "memory_gib": 1, "system": "Linux", "date": "today"}
    shown = NOTHING | {"aims": aims(found), "machine": machine, "device": {"kind": "a GPU", "devices": 1}, "seconds": 1}
    assert "- MISSED: NN2 1.3 times torch.compile (1.25 times)\n- not measured: NNS2" in report(shown)


def write_run(workdir, losses, parameters):
    workdir.mkdir(parents=True, exist_ok=True)
    rows = [{"step": k, "loss": loss, "gradient_norm": 1.0, "spread": 0.5} for k, loss in enumerate(losses, 1)]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (1, len(losses)):
        folder = workdir / "checkpoints" / str(step) / "fingerprint"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metadata").write_text(parameters)


def test_the_first_step_at_which_two_runs_differ(tmp_path):
    write_run(tmp_path / "a", [3.0, 2.0, 1.0], "p")
    write_run(tmp_path / "b", [3.0, 2.0, 1.0], "p")
    write_run(tmp_path / "c", [3.0, 2.1, 1.0], "q")
    write_run(tmp_path / "d", [3.0, 2.0, 1.0], "q")
    found = [compared(tmp_path / "a", tmp_path / other, 3) for other in "bcd"]
    assert [tuple(one.values()) for one in found] == [(True, None), (False, 2), (False, None)]


class Pretended:
    """In place of Commands: writes the run that a command would have made."""

    def __init__(self):
        self.killed, self.fresh = [], []

    def run(self, *arguments, log, variables=None, until=None):
        workdir = Path(arguments[1].partition("=")[2])
        if until is not None:
            assert not until()
            write_run(workdir, [4.0], "begun")
            assert until()
            self.killed.append(workdir.name)
            return 1.0
        if variables:
            self.fresh.append(workdir.name)
        write_run(workdir, [4.0, 3.0, 2.0, 1.5 if variables else 1.0], "other" if variables else "same")
        return 2.0


def test_a_run_is_repeated_killed_and_compiled_again(tmp_path):
    commands = Pretended()
    found = same_again(commands, ["--config=nns2"], 4, tmp_path)
    assert (commands.killed, commands.fresh) == (["resumed"], ["compiled_again"])
    assert found["again"] == {"seconds": 2.0, "same_bits": True, "parts_at": None}
    assert found["resumed"] == {"seconds": 3.0, "same_bits": True, "parts_at": None}
    assert found["compiled_again"] == {"seconds": 2.0, "same_bits": False, "parts_at": 4}


def test_a_command_is_killed_refused_or_too_late(tmp_path):
    log = tmp_path / "log"
    assert Commands(lambda: 60.0, {}).run("describe", "nns2", log=log, until=lambda: True) < 60
    with pytest.raises(Refused, match="no time left"):
        Commands(lambda: 0.0, {}).run("describe", "nns2", log=log)
    with pytest.raises(Refused, match=r"failed: .*nns3"):
        Commands(lambda: 60.0, {}).run("describe", "nns3", log=log)
    with pytest.raises(Refused, match="ended before it was killed"):
        Commands(lambda: 60.0, {}).run("--version", log=log, until=lambda: False)
