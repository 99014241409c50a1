"""Starts the points of a sweep: on this machine, one after the other, or each as a job on a cluster."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from facenet_jax.errors import InputError
from facenet_jax.runtime import library_log
from facenet_jax.sweeps.points import Point, Sweep

# Launcher -> script of launch/ and its command. Scripts take CONFIG, WORKDIR, ARGS and NAME from the environment.
_SCRIPTS = {
    "slurm": ("slurm.sh", "submit"),
    "gke": ("gke/launch.sh", "submit"),
    "tpu": ("tpu_vm.sh", "up"),
}
# Kubernetes and Cloud TPU allow names of at most this many characters here.
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Command:
    """The command that starts a point.

    Attributes:
      words: the command.
      typed: the line that a person would type for it.
      environment: variables in addition to those of this process.
      waits: whether it ends with the run; otherwise as soon as the job has been sent.
    """

    words: list[str]
    typed: str
    environment: dict[str, str] = field(default_factory=dict)
    waits: bool = True


def command_for(sweep: Sweep, point: Point, workdir: str, launcher: str) -> Command:
    """The command that starts a point.

    Args:
      sweep: the sweep.
      point: one of its points.
      workdir: the point's own.
      launcher: "local", "slurm", "gke" or "tpu".

    Raises:
      InputError: the launcher's script is not there.
    """
    arguments = sweep.arguments(point)
    if launcher == "local":
        train = ["train", f"--config={sweep.base}", f"--workdir={workdir}", *arguments]
        # This interpreter's own package, not another facenet-jax on the path.
        return Command([sys.executable, "-m", "facenet_jax", *train], shlex.join(["facenet-jax", *train]))
    name, *words = _SCRIPTS[launcher]
    script = _launch_folder() / name
    if not script.is_file():
        raise InputError(
            f"--launcher={launcher} needs {script}, which is not there; run the sweep from a clone of the repository, "
            "with the package installed from it (make setup)."
        )
    job = re.sub(r"[^a-z0-9]+", "-", f"facenet-{sweep.name}-{point.name}".lower())
    variables = {
        "CONFIG": _config_of_job(sweep.base, launcher),
        "WORKDIR": workdir,
        "ARGS": shlex.join(arguments),
        # Points differ at the end of their names, so the beginning is cut.
        "NAME": job if len(job) <= _LONGEST_NAME else "f" + job[1 - _LONGEST_NAME :].rstrip("-"),
    }
    set_first = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return Command([str(script), *words], f"{set_first} {shlex.join([str(script), *words])}", variables, waits=False)


def _config_of_job(base: str, launcher: str) -> str:
    """The path or name by which a job, which starts in the repository, finds a config.

    Raises:
      InputError: it is a file that the job's machine does not have.
    """
    file, repository = Path(base), _launch_folder().parent
    if not file.is_file():
        return base
    if launcher != "slurm" and not file.resolve().is_relative_to(repository):
        raise InputError(
            f"--config={base}: a job of --launcher={launcher} has the files of {repository} alone; put it there, such "
            "as into configs/."
        )
    return str(file.resolve() if launcher == "slurm" else file.resolve().relative_to(repository))


class Runner:
    """Runs commands one after the other, and passes signals on, by which a run saves and stops."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        # A closed terminal sends SIGHUP; under nohup it is ignored, and stays ignored.
        heard = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._pass_on) for number in heard}

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, command: Command) -> int:
        """Runs one, and returns its exit code, which for a signal is 128 plus its number."""
        # In a session of its own it gets Ctrl-C once, from this process; a second one would end it at once.
        output, errors = library_log.screen()
        self._child = subprocess.Popen(
            command.words,
            env=os.environ | command.environment,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        if self.asked is not None:  # it came while the process was being started
            self._child.send_signal(self.asked)
        code = self._child.wait()
        self._child = None
        return code if code >= 0 else 128 - code

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self.asked = signal.SIGTERM if number == signal.SIGHUP else number
        if self._child is not None:
            self._child.send_signal(self.asked)


def _launch_folder() -> Path:
    return Path(__file__).resolve().parents[3] / "launch"
