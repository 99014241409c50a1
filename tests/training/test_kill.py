"""A run that is killed at random moments and started again ends like one that was never killed, bit for bit."""

import random
import subprocess
import sys
import time

from facenet_jax.cli import main
from facenet_jax.training.metrics import read_metrics
from same_run import assert_same_run
from tiny import TINY

STEPS = 20
KILLS = 2
FEW = ("--config.eval.drawn_identities=20", "--config.eval.batch=80")  # faces to evaluate on


def command(workdir):
    return ["train", "--config=quickstart", f"--workdir={workdir}", *TINY, *FEW, f"--config.steps={STEPS}"]


def last_step(workdir):
    return max((row["step"] for row in read_metrics(workdir)), default=0)


def test_killed_runs_go_on_bit_for_bit(tmp_path):
    workdir, seed = tmp_path / "killed", time.time_ns()
    print(f"random.seed({seed})")
    chance = random.Random(seed)
    kill_after = sorted(chance.sample(range(3, STEPS - 10), KILLS))
    for step in kill_after:
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "facenet_jax", *command(workdir)], stdout=log, stderr=subprocess.STDOUT
        )
        while process.poll() is None and last_step(workdir) < step:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.wait()
        log.close()
        assert process.returncode == -9, (tmp_path / "log").read_text()
    assert main(command(workdir)) == 0
    assert main(command(tmp_path / "whole")) == 0
    assert_same_run(workdir, tmp_path / "whole", STEPS)
