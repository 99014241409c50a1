"""launch/slurm.sh on a real Slurm cluster: a disturbed job ends with the same result as an undisturbed one."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from facenet_jax.training.metrics import read_metrics
from same_run import assert_same_run
from tiny import TINY

pytestmark = pytest.mark.cluster

STEPS, EVERY = 100, 20
# As in other tests, but on both nodes, and with checkpoints to compare.
RUN = [word for word in TINY if not word.startswith(("--config.steps", "--config.mesh", "--config.checkpoint"))]
RUN += [f"--config.checkpoint.every={EVERY}", "--config.checkpoint.keep=999"]


def command(steps: int = STEPS) -> list[str]:
    return [*RUN, f"--config.steps={steps}"]


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory) -> Path:
    """An undisturbed run on two nodes."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    job = cluster.submit(workdir, command())
    assert cluster.until_ended(job) == "COMPLETED", cluster.log(job)
    assert cluster.show(job)["ExitCode"] == "0:0"
    assert cluster.show(job)["NumNodes"] == "2"
    return workdir


def test_a_run_to_its_end_on_two_nodes(undisturbed, cluster):
    assert [row["step"] for row in read_metrics(undisturbed) if "loss" in row] == list(range(1, STEPS + 1))
    assert (undisturbed / "report.json").exists()


def test_sigterm_saves_and_the_job_resumes_from_there(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / "run", command())
    cluster.until_step(job, tmp_path / "run", 30)
    cluster.ask("scancel", "--signal=TERM", str(job))
    assert cluster.until_ended(job) == "COMPLETED", cluster.log(job)
    assert cluster.show(job)["Restarts"] == "1"
    assert f"saved; job {job} goes back to the queue" in cluster.log(job)
    assert "stopped by SIGTERM" in cluster.log(job)
    assert_same_run(tmp_path / "run", undisturbed, STEPS)


def test_before_its_time_limit_a_job_saves_and_is_requeued(cluster, tmp_path):
    # A run that never ends, so that it reaches its limit on any machine.
    job = cluster.submit(tmp_path / "run", command(1_000_000), "--time=60")
    cluster.until_step(job, tmp_path / "run", 30)
    # Slurm looks at limits twice a minute: the notice, 120 seconds before the limit, comes within a minute.
    cluster.limit(job, cluster.minutes(job) + 3)
    cluster.until(lambda: cluster.show(job)["Restarts"] == "1", 300, f"{cluster.show(job)}\n{cluster.log(job)}")
    step = int(re.findall(r"stopped by SIGTERM; step (\d+) is saved", cluster.log(job).replace(",", ""))[0])
    cluster.limit(job, 60)
    compared = (step // EVERY + 1) * EVERY
    cluster.until_step(job, tmp_path / "run", compared + 5)
    assert f"from step {step:,} of 1,000,000" in cluster.log(job)
    cluster.ask("scancel", str(job))
    assert cluster.until_ended(job) == "CANCELLED"
    undisturbed = cluster.submit(tmp_path / "undisturbed", command(compared))
    assert cluster.until_ended(undisturbed) == "COMPLETED", cluster.log(undisturbed)
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed", compared)


def test_a_job_of_higher_priority_preempts_and_the_run_resumes_after_it(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / "run", command(), "--partition=low")
    cluster.until_step(job, tmp_path / "run", 30)
    urgent = ["sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--wrap=srun hostname"]
    other = int(cluster.ask(*urgent))
    assert cluster.until_ended(other) == "COMPLETED"
    assert cluster.until_ended(job) == "COMPLETED", cluster.log(job)
    assert int(cluster.show(job)["Restarts"]) >= 1
    assert_same_run(tmp_path / "run", undisturbed, STEPS)


def test_a_cancelled_job_is_not_requeued_and_its_command_resumes_later(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / "run", command())
    cluster.until_step(job, tmp_path / "run", 45)
    cluster.ask("scancel", str(job))
    assert cluster.until_ended(job) == "CANCELLED"
    assert cluster.show(job)["Restarts"] == "0"
    again = cluster.submit(tmp_path / "run", command())
    assert cluster.until_ended(again) == "COMPLETED", cluster.log(again)
    assert_same_run(tmp_path / "run", undisturbed, STEPS)


def test_a_killed_task_ends_the_job_and_its_command_resumes(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / "run", command())
    cluster.until_step(job, tmp_path / "run", 45)
    killed = [pid for pid in processes_of(tmp_path / "run") if environment_of(pid).get("SLURM_PROCID") == "1"]
    os.kill(killed[0], signal.SIGKILL)
    assert cluster.until_ended(job) == "FAILED"
    assert cluster.show(job)["Restarts"] == "0"
    again = cluster.submit(tmp_path / "run", command())
    assert cluster.until_ended(again) == "COMPLETED", cluster.log(again)
    assert_same_run(tmp_path / "run", undisturbed, STEPS)


def test_a_node_that_goes_down_and_comes_back(cluster, undisturbed, tmp_path):
    job = cluster.submit(tmp_path / "run", command())
    cluster.until_step(job, tmp_path / "run", 45)
    cluster.lose_node("n2")
    try:
        # Long before Slurm notices the lost node; the job then waits until there are two nodes again.
        said = f"a node does not answer; job {job} goes back to the queue"
        cluster.until(lambda: said in cluster.log(job), 280, f"{cluster.show(job)}\n{cluster.log(job)}")
    finally:
        cluster.start_node("n2")
    assert cluster.until_ended(job) == "COMPLETED", cluster.log(job)
    assert_same_run(tmp_path / "run", undisturbed, STEPS)


def test_bad_input_is_not_requeued(cluster, tmp_path):
    job = cluster.submit(tmp_path / "run", [*command(), f"--config.data.path={tmp_path / 'nowhere'}"])
    assert cluster.until_ended(job) == "FAILED"
    said = cluster.show(job)
    assert (said["ExitCode"], said["Restarts"]) == ("2:0", "0")
    assert "nowhere" in cluster.log(job)
    assert "Traceback" not in cluster.log(job)


SWEEP = '''"""Do the other points run when one fails?"""

AXIS = "margin"


def points(base):
    for margin in (0.1, 0.2):
        yield f"margin_{margin}", {"loss.margin": margin}
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
    line = f"{shlex.join(prepare)} --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
    array = int(cluster.ask("sbatch", "--parsable", "--array=0-1", f"--wrap={line}"))
    cluster.until(lambda: not cluster.ask("squeue", "--noheader", f"--jobs={array}"), 200, "the array does not end")
    for task in range(2):
        assert "is done; when all 2 are" in (cluster.logs / f"{array + task}.log").read_text()
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
    """The trainers of a run: Python processes whose command line names its folder, without the shells around them."""
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
