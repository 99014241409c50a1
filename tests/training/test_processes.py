"""Runs of several processes, started by the local launcher: killed, preempted, and resumed with other numbers."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from facenet_jax.cli import main
from facenet_jax.datasets.drawn import render
from programs import quick_flags
from same_run import assert_same_run, losses, params_at
from tiny import TINY

LAUNCHER = Path(__file__).parents[2] / "launch" / "local.py"
RUN = (
    *(option for option in TINY if "mesh" not in option),
    "--config.batch.size=16",
    "--config.checkpoint.every=2",
    "--config.eval.drawn_identities=20",
    "--config.eval.batch=80",
    # The steps are so small that rounding hardly ever leads to another choice of negatives.
    "--config.optimizer.initial_accumulator=0.1",
    "--config.optimizer.learning_rate=0.005",
    "--config.optimizer.weight_average=0.9",
)
STEPS = 16


def command(workdir, steps, *more):
    return ["train", "--config=quickstart", f"--workdir={workdir}", *RUN, f"--config.steps={steps}", *more]


def launch(workdir, processes, devices, steps=STEPS, more=()):
    return subprocess.Popen(
        [
            sys.executable,
            str(LAUNCHER),
            f"-n{processes}",
            f"--devices-per-process={devices}",
            "--",
            *command(workdir, steps, *more),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(job, code=0):
    output = job.communicate(timeout=300)[0]
    assert job.returncode == code, output
    return output


def wait_for_step(workdir, step, job):
    deadline = time.monotonic() + 200
    while max(losses(workdir), default=(0,))[0] < step:
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def process_of(job, index):
    """The operating system's number of a job's process, found among the launcher's children."""
    command = ["pgrep", "-P", str(job.pid), "-f", f"process={index}"]
    while not (found := subprocess.run(command, capture_output=True, text=True).stdout.split()):
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.1)
    return int(found[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two processes with two devices each, from start to end."""
    workdir = tmp_path_factory.mktemp("processes") / "whole"
    output = finish(launch(workdir, 2, 2))
    assert f"[0] after {STEPS} steps" in output
    assert "[1] step" not in output  # only the first process prints steps
    return workdir


def test_killed_and_preempted_jobs_go_on_bit_for_bit(whole, tmp_path):
    seed = time.time_ns()
    print(f"random.seed({seed})")
    chance = random.Random(seed)
    workdir = tmp_path / "run"

    killed = launch(workdir, 2, 2)
    victim = chance.randint(0, 1)
    number = process_of(killed, victim)
    wait_for_step(workdir, chance.randint(3, 6), killed)
    os.kill(number, signal.SIGKILL)
    started = time.monotonic()
    output = finish(killed, 128 + signal.SIGKILL)
    assert time.monotonic() - started < 60
    assert f"process {victim} was killed by SIGKILL" in output

    preempted = launch(workdir, 2, 2)
    number = process_of(preempted, chance.randint(0, 1))  # first, because it takes as long as several steps
    wait_for_step(workdir, chance.randint(7, 10), preempted)
    os.kill(number, signal.SIGTERM)
    assert "stopped by SIGTERM" in finish(preempted, 128 + signal.SIGTERM)

    output = finish(launch(workdir, 2, 2, more=("--config.data.cache=device",)))
    assert "kept on every device" in output
    assert_same_run(workdir, whole, STEPS)


def test_a_run_goes_on_with_other_numbers_of_processes_and_devices(whole, tmp_path):
    alone = tmp_path / "alone"
    assert main([*command(alone, 4), "--config.mesh.data=1"]) == 0
    others = {"eight devices": None, "two processes": (2, 2)}
    for name in others:
        shutil.copytree(alone, tmp_path / name)
    assert main([*command(alone, STEPS), "--config.mesh.data=1"]) == 0
    wanted = dict(losses(alone))
    assert len(wanted) == STEPS
    for name, numbers in others.items():
        if numbers is None:
            assert main(command(tmp_path / name, STEPS)) == 0
        else:
            finish(launch(tmp_path / name, *numbers))
    shutil.copytree(whole, tmp_path / "and back")
    assert main([*command(tmp_path / "and back", STEPS + 1), "--config.mesh.data=1"]) == 0
    for name in (*others, "and back"):
        found = dict(losses(tmp_path / name))
        for step in range(1, STEPS + 1):
            assert abs(found[step] - wanted[step]) < 1e-4 * wanted[step], (name, step)


def test_another_runs_parameters_come_to_the_devices_of_every_process(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "watch_of_test.py").write_text(
        "import jax, pathlib\nfile = pathlib.Path(f'process-{jax.process_index()}')\nfile.write_text('')\n"
        "def log(step, figures):\n    file.write_text(f'{file.read_text()}{step} ')\n"
    )
    tuned, still = tmp_path / "tuned", "--config.optimizer.learning_rate=1e-12"
    hook = "--on-metrics=watch_of_test:log"
    finish(launch(tuned, 2, 1, 1, (f"--config.init_from={whole}", "--config.mesh.fsdp=2", still, hook)))
    assert [(file.name, file.read_text()) for file in tmp_path.glob("process-*")] == [("process-0", "0 1 1 ")]
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, params_at(tuned, 1), params_at(whole, STEPS))


def test_a_mesh_with_uneven_processes_is_refused_in_one_sentence(tmp_path):
    output = finish(launch(tmp_path / "run", 2, 2, more=["--config.mesh.data=3"]), 2)
    assert "from 1 to 2 of each of the 2 processes" in output
    assert "Traceback" not in output


def test_a_job_of_one_process_has_not_forgotten_sigterm_when_its_loop_begins(tmp_path):
    job = launch(tmp_path / "run", 1, 1)
    while not (tmp_path / "run" / "checkpoints").exists():  # by then it has joined, and compiles its step
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.02)
    job.terminate()
    assert "stopped by SIGTERM; step 1 is saved" in finish(job, 128 + signal.SIGTERM)
    going_on = launch(tmp_path / "run", 1, 1)
    while "network  " not in (line := going_on.stdout.readline()):
        assert line, "it ended"
    going_on.terminate()
    assert "stopped by SIGTERM; step 2 is saved" in finish(going_on, 128 + signal.SIGTERM)


def apart(tmp_path, *options):
    """Runs the processes of one job, each with its own options, which must be refused; what each printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = [f"--coordinator=localhost:{free.getsockname()[1]}", f"--processes={len(options)}"]
    jobs = [
        subprocess.Popen(
            [sys.executable, "-m", "facenet_jax", *command(tmp_path / "run", 2, *place, f"--process={i}", *own)],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": quick_flags()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i, own in enumerate(options)
    ]
    return [finish(job, 2) for job in jobs]


def test_processes_that_differ_are_refused_before_the_first_step(tmp_path):
    for output in apart(tmp_path, ["--config.seed=1"], ["--config.seed=2"]):
        assert "process 1 on " in output
        assert "config.seed: 2, and 1 in process 0" in output
        assert "Traceback" not in output
        assert "step 1" not in output


def test_processes_with_other_faces_are_refused_and_an_error_in_one_is_told_by_all(tmp_path):
    for identity in range(12):
        for place in ("whole", "less"):
            (tmp_path / place / f"p{identity}").mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(render(7, identity, number, (32, 32)))
            image.save(tmp_path / "whole" / f"p{identity}" / f"{number}.png")
            if (identity, number) != (2, 3):
                image.save(tmp_path / "less" / f"p{identity}" / f"{number}.png")
    held_out = f"--config.eval.path={tmp_path / 'less'}"
    whole, less, none = (f"--config.data.path={tmp_path / place}" for place in ("whole", "less", "none"))
    for output in apart(tmp_path, [whole, "--config.eval.holdout=0.4"], [less, "--config.eval.holdout=0.4"]):
        assert "differs from process 0" in output
        assert "the faces trained on: " in output or "the faces evaluated on: " in output
    for output in apart(tmp_path, [whole, held_out], [none, held_out]):
        assert f"{tmp_path / 'none'}" in output
        assert "Traceback" not in output
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_copies_of_a_run_on_two_disks_are_refused(whole, tmp_path):
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        shutil.copytree(whole, place)
    further = f"--config.steps={STEPS + 2}"
    for output in apart(tmp_path, *([f"--workdir={place}", further] for place in places)):
        assert "is not the same on all hosts; give a --workdir on storage that they share" in output
        assert "Traceback" not in output
    assert not list(tmp_path.glob("*/.seen-*"))


def test_tracing_a_finished_run_is_refused(whole, capsys):
    assert main([*command(whole, STEPS), "--trace=12"]) == 2
    assert "--trace=12: this run is finished" in capsys.readouterr().err


def test_an_invalid_number_of_processes_is_refused_in_one_sentence(capsys):
    assert main(["train", "--coordinator=localhost:1", f"--processes={10**30}", "--process=0"]) == 2
    assert "give a number up to 100,000" in capsys.readouterr().err
    assert main(["train", "--coordinator=localhost:1", "--processes=0", "--process=0"]) == 2
    assert "--processes=0: give a number up to 100,000, and at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", ":1234", "localhost:port", "localhost:70000"])
def test_a_coordinator_without_host_or_port_is_refused_in_one_sentence(address, capsys):
    assert main(["train", f"--coordinator={address}", "--processes=1", "--process=0"]) == 2
    assert f"--coordinator={address}: give HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["localhost", "[::]:port", "0.0.0.0:70000"])
def test_an_address_from_the_environment_is_checked_too(address, monkeypatch, capsys):
    cluster = {"OMPI_MCA_orte_hnp_uri": "1.tcp://10.0.0.1:5", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
    for name, value in {**cluster, "OMPI_COMM_WORLD_LOCAL_RANK": "0", "JAX_COORDINATOR_ADDRESS": address}.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "--distributed"]) == 2
    assert f"{address}: give HOST:PORT" in capsys.readouterr().err
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", address)
    assert main(["train", "--coordinator=localhost:8476", "--processes=2", "--process=0"]) == 2
    assert f"JAX_COORDINATOR_BIND_ADDRESS={address}: give HOST:PORT" in capsys.readouterr().err
