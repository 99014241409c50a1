"""launch/slurm.sh and launch/slurm.sbatch: the commands that reach sbatch and srun, and when a job is requeued."""

import os
import shlex
import signal
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# Words that can be typed in a command line, so without line breaks.
WORDS = st.lists(st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12), max_size=5)
ASKED = ["--distributed", "--config=nn1", "--workdir=runs/nn1"]


def test_one_process_for_each_gpu_and_all_gpus_seen_by_each(launchers):
    launchers.run("slurm.sh", "submit", "--partition=gpu", CONFIG="nn1", NODES="2", GPUS="8", ARGS="--config.steps=9")
    (call,) = launchers.calls()
    size = ["--job-name=facenet-nn1", "--nodes=2", "--ntasks-per-node=8", "--gpus-per-node=8", "--partition=gpu"]
    command = [".venv/bin/facenet-jax", "train", *ASKED, "--config.steps=9"]
    assert call == ["sbatch", *size, "launch/slurm.sbatch", *command]


def test_without_gpus_one_process_a_node(launchers):
    launchers.run("slurm.sh", "submit")
    assert launchers.calls()[0][2:4] == ["--nodes=1", "--ntasks-per-node=1"]
    assert not any("gpu" in word for word in launchers.calls()[0])
    assert launchers.calls()[0][-1] == "--workdir=runs/quickstart"


@settings(max_examples=15)
@given(WORDS)
def test_words_reach_the_program_unchanged(shared_launchers, make_recorder, words):
    program = shared_launchers.folder / "environment" / "bin" / "facenet-jax"
    make_recorder(program)
    venv = {"VENV": str(shared_launchers.folder / "environment")}
    shared_launchers.run("slurm.sh", "submit", ARGS=shlex.join(words), CONFIG="nn1", **venv)
    script, *command = shared_launchers.calls()[0][-6 - len(words) :]
    assert script == "launch/slurm.sbatch"
    shared_launchers.run("slurm.sbatch", *command)
    assert (program.parent / "facenet-jax.words").read_text() == "\n".join(["train", *ASKED, *words]) + "\n"


def test_nothing_in_args_is_expanded(launchers):
    launchers.run("slurm.sh", "submit", ARGS="--config.data.path='my photos' --a=$(touch boom) --b=`ls` --c=*")
    words = launchers.calls()[0]
    assert "--config.data.path=my photos" in words
    assert words[-4:] == ["--a=$(touch", "boom)", "--b=`ls`", "--c=*"]
    assert not (launchers.root / "boom").exists()


def test_the_dry_run_prints_the_commands_and_runs_none(launchers, commands):
    given = {"CONFIG": "nn1", "ARGS": "--config.data.path='my photos'", "GPUS": "4"}
    output = launchers.run("slurm.sh", "--dry-run", "submit", **given)
    assert launchers.calls() == []
    dry = commands(output)
    assert [command[0] for command in dry] == ["sbatch", "srun", "squeue", "scontrol"]
    launchers.run("slurm.sh", "submit", **given)
    assert launchers.calls() == dry[:1]
    # The batch script's own commands, where its first ends with 143 and the job still runs.
    launchers.answer("srun", ("", 143))
    launchers.answer("squeue", "RUNNING")
    script = dry[0].index("launch/slurm.sbatch")
    launchers.run("slurm.sbatch", *dry[0][script + 1 :], code=143, SLURM_JOB_ID="JOB")
    assert launchers.calls() == dry[1:]


@pytest.mark.parametrize(
    ("code", "state", "requeued"),
    [
        (143, "RUNNING", True),  # the time limit is near, or a preemption: saved
        (143, "COMPLETING", False),  # somebody cancelled the job
        (143, "", False),  # Slurm no longer knows it
        (0, "RUNNING", False),
        (1, "RUNNING", False),
        (2, "RUNNING", False),
        (137, "RUNNING", False),  # a host was killed: Slurm requeues for a lost node, a person for the rest
    ],
)
def test_a_job_is_requeued_only_when_it_has_saved_and_was_not_cancelled(launchers, code, state, requeued):
    launchers.answer("srun", ("", code))
    launchers.answer("squeue", state)
    launchers.run("slurm.sbatch", "facenet-jax", "train", code=code, SLURM_JOB_ID="77")
    assert (["scontrol", "requeue", "77"] in launchers.calls()) == requeued


def test_a_job_that_lost_a_node_is_requeued(launchers):
    launchers.answer("srun", ("", 1), ("", 1))  # the tasks have given up; then a node does not answer
    launchers.answer("squeue", "RUNNING")
    launchers.run("slurm.sbatch", "facenet-jax", "train", code=1, SLURM_JOB_ID="77", SLURM_JOB_NUM_NODES="2")
    asked = ["srun", "--overlap", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "true"]
    assert launchers.calls()[2:] == [asked, ["scontrol", "requeue", "77"]]


def test_the_batch_shell_survives_sigterm_and_tasks_ignore_it_until_they_have_joined(launchers, tmp_path):
    program = tmp_path / "program"
    # A program without a handler of SIGTERM, which would end it with 143.
    waits = f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    program.write_text(f"#!/bin/bash\necho $$ $PPID > {tmp_path}/pid\n{waits}\ntouch {tmp_path}/left\nexit 143\n")
    program.chmod(0o755)
    (launchers.folder / "bin" / "sleep").unlink()
    launchers.answer("squeue", "RUNNING")
    launchers.prepare()
    batch = subprocess.Popen(
        ["bash", "launch/slurm.sbatch", str(program)],
        cwd=launchers.root,
        env=launchers.environment | {"SLURM_JOB_ID": "77"},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not (pid := tmp_path / "pid").exists() or not pid.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        task, parent = map(int, pid.read_text().split())
        assert parent == batch.pid  # srun's place, that is: Slurm signals the task's first process only
        os.kill(task, signal.SIGTERM)
        os.kill(batch.pid, signal.SIGTERM)
        time.sleep(0.2)
        assert batch.poll() is None
        (tmp_path / "go").touch()
        assert batch.wait(30) == 143
        assert (tmp_path / "left").exists()
    finally:
        batch.kill()
        batch.wait()
    assert launchers.calls()[-1] == ["scontrol", "requeue", "77"]


def test_slurms_options_in_the_script(launchers):
    options = [line for line in (launchers.root / "launch/slurm.sbatch").read_text().splitlines() if "#SBATCH" in line]
    # Without B: the signal is for the tasks; the log goes on after a requeue.
    assert options == [
        "#SBATCH --signal=TERM@120",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --output=slurm-%j.log",
    ]


def test_cpus_of_a_task_are_passed_on_to_srun(launchers):
    launchers.run("slurm.sbatch", "true", SLURM_CPUS_PER_TASK="8")
    assert "--cpus-per-task=8" in launchers.calls()[0]


def test_cancel_asks(launchers):
    launchers.run("slurm.sh", "cancel", "77", code=1)
    launchers.run("slurm.sh", "cancel", "77", typed="n\n", code=1)
    assert launchers.calls() == []
    launchers.run("slurm.sh", "cancel", "77", typed="y\n")
    assert launchers.calls() == [["scancel", "77"]]
    launchers.run("slurm.sh", "--yes", "cancel", "77")
    assert launchers.calls() == [["scancel", "77"]]


def test_bad_input_is_one_sentence(launchers):
    def refused(*words, **environment):
        error = launchers.run("slurm.sh", *words, code=2, **environment)
        assert launchers.calls() == []
        return error

    assert "a quote is not closed" in refused("submit", ARGS="--config.data.path='my photos")
    assert "NODES=two" in refused("submit", NODES="two")
    assert "GPUS=all" in refused("submit", GPUS="all")
    assert "number of the job" in refused("follow")
    assert "number of the job" in refused("cancel", "all")
    assert "not a command" in refused("sumbit")
    assert "--dryrun: not understood" in refused("--dryrun", "submit")
    assert "usage:" in refused()
