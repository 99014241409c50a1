"""A sweep resumes where it stopped, survives a point that fails, and ends with a table, a figure and a CSV."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from facenet_jax.cli import main
from facenet_jax.sweeps import launchers
from facenet_jax.sweeps.launchers import Command, Runner
from tiny import TINY

SWEEP = """
'''Does it matter which people there are?'''
AXIS = "seed"
PAPER = {"11": (0.9, 0.01)}


def points(base):
    yield "11", {"data.drawn.seed": 11}
    yield "12", {"data.drawn.seed": 12, "data.path": FOLDER}
    yield "13", {"data.drawn.seed": 13}
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep whose second point fails, run once: (its file, its folder, the process that ran it)."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "people.py").write_text(SWEEP.replace("FOLDER", repr(str(folder / "none"))).strip())
    command = [
        sys.executable,
        "-m",
        "facenet_jax.cli",
        "sweep",
        str(folder / "people.py"),
        f"--workdir={folder / 'run'}",
    ]
    done = subprocess.run([*command, *TINY], capture_output=True, text=True, check=False)
    return folder / "people.py", folder / "run", done


def test_a_failed_point_is_named_and_the_others_run(swept):
    _, run, done = swept
    assert done.returncode == 1, done.stderr
    assert "failed: 12." in done.stderr
    assert "none does not exist" in done.stderr
    listed, *_ = done.stdout.split("---")
    assert "3 points over quickstart" in listed
    assert listed.count("  to do") == 3
    content = json.loads((run / "sweep.json").read_text())
    assert [p["state"] for p in content["points"]] == ["finished", "failed (exit code 2)", "finished"]
    report = json.loads((run / "points" / "13" / "report.json").read_text())
    assert content["points"][2]["rates"] == report["holdout"]["rates"]
    rate = report["holdout"]["rates"][0]
    row = next(line for line in done.stdout.splitlines() if line.startswith("13 "))
    assert f"{100 * rate['val']:.1f} ± {100 * rate['standard_error']:.1f}" in row
    assert "90.0 ± 1.0" in next(line for line in done.stdout.splitlines() if line.startswith("11 "))


def test_the_csv_and_the_picture(swept):
    _, run, _ = swept
    with (run / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["data.drawn.seed"] for row in rows] == ["11", "12", "13"]
    assert [row["state"] for row in rows] == ["finished", "failed (exit code 2)", "finished"]
    report = json.loads((run / "points" / "11" / "report.json").read_text())
    assert float(rows[0]["val_far_0.01"]) == report["holdout"]["rates"][0]["val"]
    assert rows[1]["val_far_0.01"] == ""
    assert (run / "sweep.png").read_bytes()[:4] == b"\x89PNG"


def test_only_unfinished_points_run_again(swept, monkeypatch, capsys):
    file, run, _ = swept
    started = []
    monkeypatch.setattr(Runner, "__call__", lambda self, command: started.append(command.words) or 0)
    assert main(["sweep", str(file), f"--workdir={run}", *TINY]) == 0
    assert len(started) == 1
    assert f"--workdir={run / 'points' / '12'}" in started[0]
    # Another config would be another sweep: it is refused before a point runs.
    capsys.readouterr()
    assert main(["sweep", str(file), f"--workdir={run}", *TINY, "--config.loss.margin=0.1"]) == 2
    assert "config.loss.margin: 0.2 -> 0.1" in capsys.readouterr().err
    assert len(started) == 1


def test_a_dry_run_prints_the_commands(swept, capsys, monkeypatch):
    file, run, _ = swept
    monkeypatch.setattr(Runner, "__call__", lambda *_: pytest.fail("a point was started"))
    assert main(["sweep", str(file), f"--workdir={run}", "--dry-run", *TINY]) == 0
    *listed, last = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in listed[-3:]] == ["finished", "do", "finished"]
    assert shlex.split(last)[:2] == ["facenet-jax", "train"]
    assert "--config.data.drawn.seed=12" in shlex.split(last)


class TestJobs:
    """With stand-ins for the scripts of launch/ that record their arguments."""

    @pytest.fixture
    def sent(self, tmp_path, monkeypatch):
        script = tmp_path / "launch" / "slurm.sh"
        script.parent.mkdir()
        # NUL between the values, since a value may hold anything else; the second point cannot be sent.
        script.write_text(
            f'#!/bin/sh\nprintf "%s\\0" "$1" "$CONFIG" "$WORKDIR" "$ARGS" "$NAME" >> {tmp_path}/noted\n'
            'case "$WORKDIR" in */128) exit 7;; esac\n'
        )
        script.chmod(0o755)
        monkeypatch.setattr(launchers, "_launch_folder", lambda: script.parent)
        monkeypatch.chdir(tmp_path)

        def read():
            words = (tmp_path / "noted").read_text().split("\0")[:-1]
            (tmp_path / "noted").unlink()
            return [words[i : i + 5] for i in range(0, len(words), 5)]

        return read

    def test_each_point_is_sent_once(self, tmp_path, sent, capsys):
        command = ["sweep", "embedding_size", "--launcher=slurm", "--config=nn4", "--config.data.path=my photos"]
        assert main(command) == 1
        assert "failed: 128." in capsys.readouterr().err
        noted = sent()
        assert [n[3] for n in noted] == [
            shlex.join(["--config.data.path=my photos", f"--config.model.embedding_size={d}"])
            for d in (64, 128, 256, 512)
        ]
        assert noted[0][:3] == ["submit", "nn4", str(tmp_path / "runs/sweeps/embedding_size/points/64")]
        assert noted[0][4] == "facenet-embedding-size-64"
        assert main(command) == 1
        assert [n[4] for n in sent()] == ["facenet-embedding-size-128"]
        assert main([*command, "--again"]) == 1
        assert len(sent()) == 4

    def test_a_users_own_config_is_found_by_the_job(self, tmp_path, sent, monkeypatch, capsys):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        own = "from facenet_jax.config import load_config\n\n\ndef get_config():\n    return load_config('nn4', [])\n"
        (tmp_path / "elsewhere" / "mine.py").write_text(own)
        command = ["sweep", "embedding_size", "--config=mine.py"]
        assert main([*command, "--launcher=slurm"]) == 1
        assert {n[1] for n in sent()} == {str(tmp_path / "elsewhere" / "mine.py")}
        (tmp_path / "launch" / "tpu_vm.sh").touch()
        (tmp_path / "elsewhere").rename(tmp_path.parent / f"{tmp_path.name}-outside")
        monkeypatch.chdir(tmp_path.parent / f"{tmp_path.name}-outside")
        assert main([*command, "--launcher=tpu"]) == 2
        assert "put it there, such as into configs/" in capsys.readouterr().err

    def test_local_points_need_a_local_folder(self, capsys):
        assert main(["sweep", "embedding_size", "--workdir=gs://bucket/x"]) == 2
        assert "need a folder here" in capsys.readouterr().err

    def test_a_missing_script(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(launchers, "_launch_folder", lambda: tmp_path)
        monkeypatch.chdir(tmp_path)
        assert main(["sweep", "embedding_size", "--launcher=tpu"]) == 2
        assert "clone of the repository" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "passed"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGTERM)],
)
def test_signals_are_passed_on(number, passed, tmp_path):
    # It makes a file when it listens, and ends with 130 or 143 on a signal, as a run that has saved does.
    script = f"trap 'exit 130' INT; trap 'exit 143' TERM; touch {tmp_path}/listens; while :; do sleep 0.05; done"

    def ask():
        while not (tmp_path / "listens").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    kept = signal.signal(number, signal.default_int_handler)  # pytest may run where hangups are ignored
    before = signal.getsignal(number)
    with Runner() as run:
        asking = threading.Thread(target=ask)
        asking.start()
        assert run(Command(["sh", "-c", script], "")) == 128 + passed
        asking.join()
        assert run.asked == passed
    assert signal.getsignal(number) is before
    signal.signal(number, kept)


def test_under_nohup_a_hangup_stays_ignored():
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Runner():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signal.signal(signal.SIGHUP, kept)


def test_a_sweep_that_is_stopped_keeps_the_rest_for_later(tmp_path, monkeypatch, capsys):
    started = []

    def stopped(self, command):
        started.append(command)
        self.asked = signal.SIGTERM
        return 143

    monkeypatch.setattr(Runner, "__call__", stopped)
    assert main(["sweep", "embedding_size", f"--workdir={tmp_path}"]) == 143
    assert len(started) == 1
    assert "resumes where it stopped" in capsys.readouterr().err
