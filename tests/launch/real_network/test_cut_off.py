"""Hosts that lose their network: all processes end in time, and the job resumes from the last checkpoint."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from facenet_jax.training.metrics import read_metrics
from network_hosts import Hosts, ended, until
from same_run import assert_same_run
from tiny import TINY

pytestmark = pytest.mark.cluster

STEPS = 80
# One device in each process, and checkpoints to resume from.
RUN = [word for word in TINY if not word.startswith(("--config.steps", "--config.mesh", "--config.checkpoint"))]
RUN += ["--config.checkpoint.every=20", "--config.checkpoint.keep=99"]
# docs/launch.md: processes that lose contact with each other end within a minute.
A_MINUTE = 60
MOMENTS = ("in a step", "while saving", "while agreeing on a stop")


def start(hosts: Hosts, workdir: Path, steps: int, count: int = 2) -> list[subprocess.Popen[bytes]]:
    return hosts.train(workdir, *RUN, f"--config.steps={steps}", hosts=count)


def finish(hosts: Hosts, workdir: Path, steps: int, count: int = 2) -> None:
    """Starts a run, and waits for its end."""
    processes = start(hosts, workdir, steps, count)
    until(lambda: ended(processes), 900, lambda: hosts.all_said(workdir))
    assert [process.returncode for process in processes] == [0] * count, hosts.all_said(workdir)


@pytest.fixture(scope="module")
def undisturbed(hosts, tmp_path_factory) -> Path:
    """An undisturbed run on two hosts."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(hosts, workdir, STEPS)
    return workdir


def wait_for(moment: str, hosts: Hosts, workdir: Path, processes: list[subprocess.Popen[bytes]], step: int) -> None:
    """Waits for a moment of a run, after a step."""

    def taken() -> bool:
        file = workdir / "metrics.jsonl"
        assert not ended(processes), hosts.all_said(workdir)
        return file.exists() and file.read_text().count('"loss"') >= step

    until(taken, 600, lambda: hosts.all_said(workdir), pause=0.02)
    if moment == "while saving":
        until(lambda: being_saved(workdir), 120, lambda: hosts.all_said(workdir), pause=0.002)
    elif moment == "while agreeing on a stop":
        os.kill(processes[1].pid, signal.SIGTERM)


def being_saved(workdir: Path) -> list[Path]:
    """Checkpoints that are not complete yet."""
    return list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def saved(workdir: Path) -> int:
    """The step of the last complete checkpoint."""
    return max(int(folder.name) for folder in (workdir / "checkpoints").iterdir() if folder.name.isdigit())


def test_five_seconds_without_a_cable_are_waited_for(hosts, undisturbed, tmp_path):
    workdir = tmp_path / "run"
    processes = start(hosts, workdir, STEPS)
    for moment, host, step in zip(MOMENTS, (1, 0, 1), (5, 15, 45), strict=True):
        wait_for(moment, hosts, workdir, processes, step)
        hosts.pull(host)
        if moment == "while saving":
            assert being_saved(workdir)
        time.sleep(5)
        assert not ended(processes), hosts.all_said(workdir)
        hosts.plug(host)
    until(lambda: ended(processes), 300, lambda: hosts.all_said(workdir))
    assert [process.returncode for process in processes] == [143, 143], hosts.all_said(workdir)
    assert f"stopped by SIGTERM; step {saved(workdir)} is saved" in hosts.said(workdir, 0)
    finish(hosts, workdir, STEPS)
    assert_same_run(workdir, undisturbed, STEPS)


def assert_all_end_and_say_why(
    hosts: Hosts, workdir: Path, processes: list[subprocess.Popen[bytes]], pulled: int
) -> None:
    """Pulls a cable for a minute, and asserts that all processes end and name the host."""
    since = time.monotonic()
    hosts.pull(pulled)
    until(lambda: ended(processes), A_MINUTE, lambda: hosts.all_said(workdir))
    assert [process.returncode for process in processes] == [1] * len(processes), hosts.all_said(workdir)
    for host in range(len(processes)):
        said = hosts.said(workdir, host)
        blamed = f"process {pulled} on h{pulled}" if host != pulled else "process "
        ends = rf"has not been heard of for .*\(this is process {host}, which ends\)"
        assert re.search(f"facenet-jax: {blamed}.*{ends}", said), said
        assert "Check failure stack trace" not in said
    time.sleep(max(0, since + A_MINUTE - time.monotonic()))
    hosts.plug(pulled)


@pytest.mark.parametrize(("moment", "host"), list(zip(MOMENTS, (1, 0, 1), strict=True)))
def test_a_minute_without_a_cable_ends_all_and_the_command_resumes(hosts, undisturbed, tmp_path, moment, host):
    workdir = tmp_path / "run"
    processes = start(hosts, workdir, STEPS)
    wait_for(moment, hosts, workdir, processes, 35)
    assert_all_end_and_say_why(hosts, workdir, processes, host)
    last = saved(workdir)
    if moment == "while saving":
        assert being_saved(workdir)
    finish(hosts, workdir, STEPS)
    assert f"from step {last} of {STEPS}" in hosts.said(workdir, 0)
    assert_same_run(workdir, undisturbed, STEPS)


def test_one_of_four_hosts_is_cut_off(hosts, tmp_path):
    steps = 40
    finish(hosts, tmp_path / "undisturbed", steps, count=4)
    workdir = tmp_path / "run"
    processes = start(hosts, workdir, steps, count=4)
    wait_for("in a step", hosts, workdir, processes, 25)
    assert_all_end_and_say_why(hosts, workdir, processes, 2)
    finish(hosts, workdir, steps, count=4)
    assert "from step 20 of 40" in hosts.said(workdir, 0)
    assert_same_run(workdir, tmp_path / "undisturbed", steps)


@pytest.mark.parametrize(
    "queue",
    ["netem delay 20ms 5ms loss 1%", "tbf rate 20mbit burst 8kb limit 12kb"],
    ids=["delay and loss", "a slow line that drops packets"],
)
def test_a_bad_line_makes_a_run_slower_and_changes_nothing_else(hosts, undisturbed, tmp_path, queue):
    hosts.slow(*queue.split())
    try:
        finish(hosts, tmp_path / "run", 20)
    finally:
        dropped = hosts.fast()
    assert dropped
    assert [row["step"] for row in read_metrics(tmp_path / "run") if "loss" in row] == list(range(1, 21))
    assert_same_run(tmp_path / "run", undisturbed, 20)
