"""A fixture: a real Slurm cluster of two nodes on this machine, for the duration of the tests."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol", "scancel", "sinfo", "unshare", "setpriv")

# All files and sockets are in one folder; the machine's own /etc is neither used nor changed.
# cred_expire shortens the time that Slurm holds a requeued job (120 s by default, see docs/launch.md).
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
SlurmdTimeout=300
KillWait=30
MinJobAge=3600
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=low Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=off
"""


class Cluster:
    """Two nodes, n1 and n2, and a copy of the launchers that submits to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.environment: dict[str, str] = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "SBATCH_OUTPUT": str(self.logs / "%j.log"),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]),
            "VENV": str(folder / "venv"),
            "NODES": "2",
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts the daemons with `n1` and `n2` as names of this machine, since JAX resolves the first node's name."""
        self.logs.mkdir(parents=True)
        (self.folder / "state").mkdir()
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        ports = [one.getsockname()[1] for one in sockets]
        for one in sockets:
            one.close()
        host = socket.gethostname()
        text = CONFIGURATION.format(folder=self.folder, host=host, ports=ports)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "hosts").write_text(Path("/etc/hosts").read_text() + f"\n127.0.0.1 n1 n2 {host}\n")
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o400)
        program = self.folder / "venv" / "bin" / "facenet-jax"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m facenet_jax "$@"\n')
        program.chmod(0o755)
        names = ("key-file", "munge.key"), ("socket", "munge.socket"), ("pid-file", "munge.pid")
        files = (*names, ("log-file", "munge.log"), ("seed-file", "munge.seed"))
        self._daemon("munged", "--foreground", "--force", *(f"--{name}={self.folder / file}" for name, file in files))
        self.until(lambda: (self.folder / "munge.socket").exists(), 120, "munged has no socket")
        self._daemon("slurmctld", "-D")
        for node in ("n1", "n2"):
            self.start_node(node)
        self.until(lambda: self.ask("sinfo", "--noheader", "--format=%T %D") == "idle 2", 180, "the nodes are not idle")

    def start_node(self, node: str) -> None:
        """Starts the daemon of a node."""
        self._daemon("slurmd", "-D", "-N", node)

    def lose_node(self, node: str) -> None:
        """Kills a node's daemon and all processes that it started, as a power cut does."""
        daemon = next(one for one in self._started if one.args[-3:] == ["-D", "-N", node])
        self._started.remove(daemon)
        self._kill(daemon, node)

    def stop(self) -> None:
        """Ends every job and every daemon."""
        for daemon in reversed(self._started):
            self._kill(daemon)

    def _kill(self, daemon: subprocess.Popen[bytes], node: str = "") -> None:
        """Kills a daemon, and the jobs of its node, or of all nodes."""
        with_children(daemon.pid)
        # slurmd's steps leave its process group; their environment names their cluster and node.
        wanted = {f"SLURM_CONF={self.folder / 'slurm.conf'}".encode()}
        wanted |= {f"SLURMD_NODENAME={node}".encode()} if node else set()
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    environment = (process / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue
                if wanted.issubset(environment):
                    with_children(int(process.name))
        daemon.wait()

    def _daemon(self, *words: str) -> None:
        mounted = f'mount --bind {shlex.quote(str(self.folder / "hosts"))} /etc/hosts && exec "$@"'
        # setpriv ends a daemon with the tests, however these end.
        own = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--propagation=private"]
        with (self.folder / f"{words[0]}.out").open("a") as said:
            self._started.append(
                subprocess.Popen(
                    [*own, "bash", "-c", mounted, "daemon", *words],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def ask(self, *words: str) -> str:
        """The output of a Slurm command."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout.strip()

    def submit(self, workdir: Path, arguments: list[str], *options: str, script: str = "launch/slurm.sh") -> int:
        """Runs `launch/slurm.sh submit`; returns the job's number."""
        given = {"CONFIG": "quickstart", "WORKDIR": str(workdir), "ARGS": shlex.join(arguments)}
        done = subprocess.run(
            [str(ROOT / script), "submit", *options],
            env=self.environment | given,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return int(done.stdout.split("Submitted batch job ")[1].split()[0])

    def show(self, job: int) -> dict[str, str]:
        """Slurm's entry of a job: its state, how often it was restarted, its exit code."""
        words = self.ask("scontrol", "--oneliner", "show", "job", str(job)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def state(self, job: int) -> str:
        """A job's state: PENDING, RUNNING, COMPLETED, ..."""
        return self.show(job).get("JobState", "")

    def minutes(self, job: int) -> int:
        """Whole minutes since a job was last started."""
        hours, minutes, _ = self.show(job)["RunTime"].split(":")
        return int(hours) * 60 + int(minutes)

    def limit(self, job: int, minutes: int) -> None:
        """Changes a job's time limit."""
        self.ask("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")

    def log(self, job: int) -> str:
        """All output of a job, also from before it was requeued."""
        file = self.logs / f"{job}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def until(self, true: Callable[[], object], seconds: float, otherwise: str) -> None:
        """Waits for something to become true."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, otherwise
            time.sleep(0.3)

    def until_step(self, job: int, workdir: Path, step: int) -> None:
        """Waits until a run has taken this many steps."""
        file = workdir / "metrics.jsonl"

        def there() -> bool:
            lines = file.read_text().splitlines() if file.exists() else []
            return any(json.loads(line)["step"] >= step for line in lines[-1:])

        self.until(there, 900, f"step {step} was not reached:\n{self.log(job)}")

    def until_ended(self, job: int, seconds: float = 900) -> str:
        """Waits until a job has ended; returns its last state."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
        self.until(lambda: self.state(job) in over, seconds, f"{self.show(job)}\n{self.log(job)}")
        return self.state(job)


def with_children(pid: int) -> None:
    """Kills a process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return
    for child in children:
        with_children(int(child))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    missing = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if missing:
        pytest.skip(
            f"Slurm is not installed ({', '.join(missing)}): apt-get install slurmctld slurmd slurm-client munge"
        )
    if os.geteuid() != 0:
        pytest.skip("starting a Slurm cluster needs root")
    own = ["unshare", "--mount", "--propagation=private", "mount", "--bind", "/etc/hosts", "/etc/hosts"]
    tried = subprocess.run(own, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this system does not allow private mounts: {shlex.join(own)}: {tried.stderr.strip()}")
    started = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        started.start()
        yield started
    finally:
        started.stop()
