#!/usr/bin/env python3
"""Runs several processes of facenet-jax on this machine as the hosts of one job, to try what a cluster does.

    launch/local.py -n 4 --devices-per-process 2 -- train --config=quickstart --workdir=runs/four

Each process has simulated CPU devices of its own, and each line of output begins with its process's number. When one
ends in error or is killed, this says so in a sentence and ends the others; Ctrl-C and SIGTERM are passed on, so that
the run saves and leaves with exit code 143, after which the same command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import IO

# Time for the others to end by themselves after one has failed, and for all to save after a request to stop.
GRACE_SECONDS, SAVE_SECONDS = 5, 120


def main() -> int:
    """Starts the processes, waits for them, and returns the exit code of the job."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], epilog="example: " + __doc__.split("\n\n")[1].strip()
    )
    parser.add_argument("-n", "--processes", type=int, required=True, help="how many processes")
    parser.add_argument("--devices-per-process", type=int, default=1, metavar="D", help="CPU devices in each")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- train --config=...")
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if options.processes < 1 or options.devices_per_process < 1:
        parser.error("-n and --devices-per-process must be at least 1")
    if command[:1] != ["train"]:
        parser.error("after -- comes `train` and its options; only training runs in several processes")
    return Job(command, options.processes, options.devices_per_process).wait()


class Job:
    """The processes of one job."""

    def __init__(self, command: list[str], count: int, devices: int) -> None:
        """Starts them.

        Args:
          command: what `facenet-jax` is given.
          count: how many processes.
          devices: of each.
        """
        with socket.socket() as free:
            free.bind(("localhost", 0))
            coordinator = f"localhost:{free.getsockname()[1]}"
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip(),
            "PYTHONUNBUFFERED": "1",
        }
        self.processes: list[subprocess.Popen[str]] = []
        self.asked_at: float | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._pass_on)
        for index in range(count):
            place = [f"--coordinator={coordinator}", f"--processes={count}", f"--process={index}"]
            process = subprocess.Popen(
                [sys.executable, "-m", "facenet_jax", *command, *place],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # a Ctrl-C reaches this process alone, which passes it on as SIGTERM
            )
            self.processes.append(process)
        self._readers = [
            threading.Thread(target=_copy, args=(index, process.stdout), daemon=True)
            for index, process in enumerate(self.processes)
        ]
        for reader in self._readers:
            reader.start()

    def wait(self) -> int:
        """Returns when all have ended: 0, or the first failure's code (128 + the signal where one was killed)."""
        code = 0
        while any(process.poll() is None for process in self.processes):
            code = next((found for process in self.processes if (found := process.poll())), 0)
            if code:
                break
            if self.asked_at is not None and time.monotonic() > self.asked_at + SAVE_SECONDS:
                say(f"not all processes have saved and left within {SAVE_SECONDS} s; ending them")
                self._end()
            time.sleep(0.1)
        else:
            code = next((process.returncode for process in self.processes if process.returncode), 0)
        if code and code != 128 + signal.SIGTERM:
            index = next(i for i, process in enumerate(self.processes) if process.poll() == code)
            stopped = [i for i, process in enumerate(self.processes) if _is_stopped(process)]
            left = sum(process.poll() is None for process in self.processes)
            what = f"process {index} {_how(code)}"
            if stopped:
                one = f"process {stopped[0]} is" if len(stopped) == 1 else f"processes {stopped} are"
                what = f"{one} stopped (SIGSTOP) and does not answer, so that {what}"
            say(f"{what}; ending the other {left}" if left else what)
            self._end()
        for process in self.processes:
            process.wait()
        for reader in self._readers:
            reader.join(timeout=5)
        return code if code >= 0 else 128 - code

    def _end(self) -> None:
        """Kills those that have not ended by themselves after a while."""
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and any(process.poll() is None for process in self.processes):
            time.sleep(0.1)
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def _pass_on(self, *_: object) -> None:
        self.asked_at = self.asked_at or time.monotonic()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def _is_stopped(process: subprocess.Popen[str]) -> bool:
    """Whether a process is stopped by a signal or a debugger: the state after its name in Linux's /proc/PID/stat."""
    try:
        with open(f"/proc/{process.pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):  # it has ended, or the system has no /proc
        return False


def _copy(index: int, stream: IO[str] | None) -> None:
    assert stream is not None
    for line in stream:
        print(f"[{index}] {line}", end="", flush=True)


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def say(text: str) -> None:
    """Prints a line of this program's own, on standard error."""
    print(f"launch/local.py: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
