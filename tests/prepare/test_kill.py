"""Killed with SIGKILL at random moments and started again, prepare ends with the bytes of one never killed."""

import random
import subprocess
import sys
import time

from facenet_jax.cli import main
from preparing import contents, crowd

KILLS = 2


def test_killed_and_continued_it_is_byte_identical(tmp_path):
    seed = time.time_ns()
    print(f"random.seed({seed})")
    chance = random.Random(seed)
    source = crowd(tmp_path / "photos", 60, 25, side=48)

    def command(out):
        return ["prepare", str(source), str(out), "--crop", "centre", "--size", "64", "--workers", "2"]

    out = tmp_path / "killed"
    for number in range(KILLS):
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "facenet_jax.cli", *command(out)], stdout=log, stderr=subprocess.STDOUT
        )
        # From when shards are being written: each has about a third of a second.
        while process.poll() is None and len(list(out.glob(".faces-*"))) + len(list(out.glob("faces-*"))) <= number:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        process.wait()
        log.close()
        assert process.returncode == -9, (tmp_path / "log").read_text()
        assert not (out / "card.json").exists()
    assert main(command(out)) == 0
    assert main(command(tmp_path / "whole")) == 0
    assert contents(out) == contents(tmp_path / "whole")
