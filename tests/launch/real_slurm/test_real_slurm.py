"""launch/slurm.sh on a real Slurm cluster: whatever happens to a job, it ends where one never disturbed ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from facenet_jax.runtime.checkpoints import Checkpoints
from facenet_jax.training.metrics import read_metrics
from tiny import TINY

pytestmark = pytest.mark.cluster

STEPS = 120
LONGEST = 600
# As in the other tests, but over both nodes, and with checkpoints to compare at.
RUN = [word for word in TINY if not word.startswith(("--config.steps", "--config.mesh", "--config.checkpoint"))]
RUN += ["--config.checkpoint.every=20", "--config.checkpoint.keep=99"]


def command(steps: int = STEPS) -> list[str]:
    return [*RUN, f"--config.steps={steps}"]


def params(workdir: Path, step: int) -> list[np.ndarray]:
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        return jax.tree.leaves(checkpoints.restore_params(step))
    finally:
        checkpoints.close()


def assert_never_disturbed(workdir: Path, undisturbed: Path, steps: int = STEPS) -> None:
    """A run's losses and its last parameters are those of the run that nothing happened to."""
    found, wanted = (
        {row["step"]: row["loss"] for row in read_metrics(path) if "loss" in row and row["step"] <= steps}
        for path in (workdir, undisturbed)
    )
    assert list(found) == list(range(1, steps + 1))
    assert found == wanted
    for left, right in zip(params(workdir, steps), params(undisturbed, steps), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory) -> Path:
    """A run to the end on two nodes, longer than all others."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    job = cluster.submit(workdir, command(LONGEST))
    assert cluster.until_ended(job) == "COMPLETED", cluster.log(job)
    assert cluster.show(job)["ExitCode"] == "0:0"
    assert cluster.show(job)["NumNodes"] == "2"
    return workdir


def test_a_run_to_its_end_on_two_nodes(undisturbed, cluster):
    assert [row["step"] for row in read_metrics(undisturbed) if "loss" in row] == list(range(1, LONGEST + 1))
    assert (undisturbed / "report.json").exists()


def test_sigterm_by_hand_saves_and_the_job_goes_on_from_there(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / "run", command())
    cluster.until_step(job, tmp_path / "run", 30)
    cluster.ask("scancel", "--signal=TERM", str(job))
    assert cluster.until_ended(job) == "COMPLETED", cluster.log(job)
    assert cluster.show(job)["Restarts"] == "1"
    assert f"saved; job {job} goes back to the queue" in cluster.log(job)
    assert "stopped by SIGTERM" in cluster.log(job)
    assert_never_disturbed(tmp_path / "run", undisturbed)


def test_the_time_limit_is_met_in_several_lives(cluster, undisturbed, tmp_path):
    # Slurm looks at time limits twice a minute: the notice comes after 30 to 60 seconds of two minutes.
    job = cluster.submit(tmp_path / "run", command(LONGEST), "--time=2", "--signal=TERM@60")
    assert cluster.until_ended(job, 600) == "COMPLETED", cluster.log(job)
    assert int(cluster.show(job)["Restarts"]) >= 1
    assert_never_disturbed(tmp_path / "run", undisturbed, LONGEST)


def test_a_job_of_higher_priority_preempts_and_the_run_goes_on_after_it(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / "run", command(), "--partition=low")
    cluster.until_step(job, tmp_path / "run", 30)
    urgent = ["sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--wrap=srun hostname"]
    other = int(cluster.ask(*urgent))
    assert cluster.until_ended(other) == "COMPLETED"
    assert cluster.until_ended(job) == "COMPLETED", cluster.log(job)
    assert int(cluster.show(job)["Restarts"]) >= 1
    assert_never_disturbed(tmp_path / "run", undisturbed)


def test_a_cancelled_job_is_not_requeued_and_its_command_goes_on_later(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / "run", command())
    cluster.until_step(job, tmp_path / "run", 70)
    cluster.ask("scancel", str(job))
    assert cluster.until_ended(job) == "CANCELLED"
    assert cluster.show(job)["Restarts"] == "0"
    again = cluster.submit(tmp_path / "run", command())
    assert cluster.until_ended(again) == "COMPLETED", cluster.log(again)
    assert_never_disturbed(tmp_path / "run", undisturbed)


def test_a_task_that_was_killed_ends_the_job_and_its_command_goes_on(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / "run", command())
    cluster.until_step(job, tmp_path / "run", 70)
    killed = [pid for pid in processes_of(tmp_path / "run") if environment_of(pid).get("SLURM_PROCID") == "1"]
    os.kill(killed[0], signal.SIGKILL)
    assert cluster.until_ended(job) == "FAILED"
    assert cluster.show(job)["Restarts"] == "0"
    again = cluster.submit(tmp_path / "run", command())
    assert cluster.until_ended(again) == "COMPLETED", cluster.log(again)
    assert_never_disturbed(tmp_path / "run", undisturbed)


def test_a_node_that_goes_down_and_comes_back(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / "run", command())
    cluster.until_step(job, tmp_path / "run", 70)
    cluster.lose_node("n2")
    # Slurm notices, requeues the job by itself, and holds it until there are two nodes again.
    cluster.until(lambda: cluster.show(job).get("Restarts") == "1", 200, f"{cluster.show(job)}\n{cluster.log(job)}")
    cluster.start_node("n2")
    assert cluster.until_ended(job) == "COMPLETED", cluster.log(job)
    assert_never_disturbed(tmp_path / "run", undisturbed)


def test_bad_input_is_not_requeued(cluster, tmp_path):
    job = cluster.submit(tmp_path / "run", [*command(), f"--config.data.path={tmp_path / 'nowhere'}"])
    assert cluster.until_ended(job) == "FAILED"
    said = cluster.show(job)
    assert (said["ExitCode"], said["Restarts"]) == ("2:0", "0")
    assert "nowhere" in cluster.log(job)
    assert "Traceback" not in cluster.log(job)


SWEEP = '''"""Does one failing point leave the others alone?"""

AXIS = "margin"


def points(base):
    for margin in (0.1, 0.2):
        yield f"margin {margin}", {"loss.margin": margin}
    yield "nobody", {"data.path": "{nowhere}"}
'''


def test_a_sweep_of_three_points_of_which_one_fails(cluster, tmp_path):
    sweep = tmp_path / "margins.py"
    sweep.write_text(SWEEP.replace("{nowhere}", str(tmp_path / "nowhere")))
    words = [sys.executable, "-m", "facenet_jax", "sweep", str(sweep), "--config=quickstart", "--launcher=slurm"]
    words += [f"--workdir={tmp_path / 'sweep'}", *RUN, "--config.steps=20"]
    sent = subprocess.run(words, env=cluster.environment, capture_output=True, text=True, timeout=120, check=False)
    jobs = [int(line.split()[-1]) for line in sent.stdout.splitlines() if line.startswith("Submitted batch job")]
    assert len(jobs) == 3, sent.stdout + sent.stderr
    assert [cluster.until_ended(job) for job in jobs] == ["COMPLETED", "COMPLETED", "FAILED"]
    looked = subprocess.run(
        [*words, "--dry-run"], env=cluster.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert looked.stdout.count("finished") >= 2, looked.stdout


def test_prepare_as_an_array_of_shards_and_their_merge(cluster, photos, tmp_path):
    program = f"{cluster.environment['VENV']}/bin/facenet-jax"
    prepare = [program, "prepare", str(photos), str(tmp_path / "faces"), "--crop=none", "--workers=1"]
    line = f"{shlex.join(prepare)} --shard=$((SLURM_ARRAY_TASK_ID + 1))/2"
    array = int(cluster.ask("sbatch", "--parsable", "--array=0-1", f"--wrap={line}"))
    cluster.until(lambda: not cluster.ask("squeue", "--noheader", f"--jobs={array}"), 200, "the array does not end")
    merge = shlex.join([program, "merge", str(tmp_path / "faces")])
    job = int(cluster.ask("sbatch", "--parsable", f"--wrap={merge}"))
    assert cluster.until_ended(job) == "COMPLETED", cluster.log(job)
    alone = [sys.executable, "-m", "facenet_jax", *prepare[1:3], str(tmp_path / "alone"), *prepare[4:]]
    subprocess.run(alone, env=cluster.environment, check=True, capture_output=True, timeout=200)
    files = [
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*.array_record")}
        for root in (tmp_path / "faces", tmp_path / "alone")
    ]
    assert files[0]
    assert files[0] == files[1]


def processes_of(workdir: Path) -> list[int]:
    """The trainers of a run: those whose command line names its folder, and no shell or srun around them."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if f"--workdir={workdir}" in words and "facenet_jax" in words:
                found.append(int(process.name))
    return found


def environment_of(pid: int) -> dict[str, str]:
    """The variables that a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
