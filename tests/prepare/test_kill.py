"""A `prepare` that is stopped or killed at random moments and started again gives the same bytes as one that never
stopped.
"""

import random
import signal
import subprocess
import sys
import time

from facenet_jax.cli import main
from preparing import contents, crowd

ENDS = (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL)


def test_after_kills_the_dataset_is_byte_identical(tmp_path):
    seed = time.time_ns()
    print(f"random.seed({seed})")
    chance = random.Random(seed)
    source = crowd(tmp_path / "photos", 60, 60, side=32)

    def command(out):
        return ["prepare", str(source), str(out), "--crop", "centre", "--size", "64", "--workers", "2"]

    out = tmp_path / "killed"
    for end in ENDS:
        before = set(out.glob(".faces-*"))
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "facenet_jax.cli", *command(out)], stdout=log, stderr=subprocess.STDOUT
        )
        while process.poll() is None and not set(out.glob(".faces-*")) - before:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.1))  # while it writes the first or second shard of fifteen
        process.send_signal(end)
        process.wait()
        log.close()
        said = (tmp_path / "log").read_text()
        if end is signal.SIGTERM:
            assert process.returncode == 128 + end, said
            assert "stopped by SIGTERM; the same command resumes" in said
            assert not list(out.rglob(".*.tmp"))
        else:
            assert process.returncode == -end, said
        assert not (out / "card.json").exists()
    assert main(command(out)) == 0
    assert main(command(tmp_path / "whole")) == 0
    assert contents(out) == contents(tmp_path / "whole")


# A command that is killed while its worker starts. The worker keeps standard output open until it ends.
KILLED_EARLY = """
import multiprocessing, os, signal, threading
from facenet_jax.prepare import workers

def worker():
    multiprocessing.parent_process().join()
    threading.Thread.start = lambda thread: None  # no other thread runs before a part is begun
    workers._start_worker(*[None] * 5)
    print("begins a part", flush=True)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=worker).start()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_does_not_begin_if_its_command_was_killed(tmp_path):
    (tmp_path / "command.py").write_text(KILLED_EARLY)
    done = subprocess.run([sys.executable, tmp_path / "command.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "")
