"""Virtual hosts with their own addresses and cables on this machine: network namespaces on a bridge."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PORT = 8476
# Each host has its own name and /etc/hosts; processes are not isolated.
HOST = 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"'


class Hosts:
    """Hosts h0, h1, ... at 10.77.0.1, 10.77.0.2, ..., each with a cable to one switch.

    The machine's own network is neither used nor changed.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        self._prefix = f"facenet-{os.getpid()}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Makes the switch, the hosts and their cables."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "hosts").write_text(
            "127.0.0.1 localhost\n" + "".join(f"{self.address(i)} h{i}\n" for i in range(self.count))
        )
        self._switch("netns add {switch}")
        self._switch("-n {switch} link add bridge type bridge")
        self._switch("-n {switch} link set bridge up")
        for i in range(self.count):
            host = self._host(i)
            self._switch(f"netns add {host}")
            self._switch(f"-n {{switch}} link add port{i} type veth peer name eth0 netns {host}")
            self._switch(f"-n {{switch}} link set port{i} master bridge up")
            self._switch(f"-n {host} addr add {self.address(i)}/24 dev eth0")
            self._switch(f"-n {host} link set lo up")
            self._switch(f"-n {host} link set eth0 up")

    def stop(self) -> None:
        """Ends all processes, and removes hosts, cables and switch."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for name in [*(self._host(i) for i in range(self.count)), f"{self._prefix}-switch"]:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def address(self, host: int) -> str:
        return f"10.77.0.{host + 1}"

    def pull(self, host: int) -> None:
        """Pulls a host's cable out of the switch: both ends lose their carrier."""
        self._switch(f"-n {{switch}} link set port{host} down")

    def plug(self, host: int) -> None:
        """Puts a host's cable back."""
        self._switch(f"-n {{switch}} link set port{host} up")

    def slow(self, *words: str) -> None:
        """Makes every host send through a queue of the kernel, given as for `tc`.

        Skips the test if the kernel has no such queue.
        """
        for i in range(self.count):
            command = ["tc", "-n", self._host(i), "qdisc", "replace", "dev", "eth0", "root", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"this kernel has no queue `{words[0]}`: {done.stderr.strip()}")

    def fast(self) -> int:
        """Removes the queue; returns how many packets it has dropped."""
        dropped = 0
        for i in range(self.count):
            shown = _output("tc", "-n", self._host(i), "-s", "-json", "qdisc", "show", "dev", "eth0")
            dropped += sum(queue.get("drops", 0) for queue in json.loads(shown))
            subprocess.run(["tc", "-n", self._host(i), "qdisc", "del", "dev", "eth0", "root"], check=False)
        return dropped

    def sent(self, host: int) -> tuple[int, int]:
        """Bytes and packets that have left a host, as its interface counts them."""
        shown = _output("ip", "-n", self._host(host), "-stats", "-json", "link", "show", "eth0")
        counted = json.loads(shown)[0]["stats64"]["tx"]
        return counted["bytes"], counted["packets"]

    def train(self, workdir: Path, *options: str, hosts: int | None = None) -> list[subprocess.Popen[bytes]]:
        """Starts a process of `facenet-jax train` on each host; its output goes to `<workdir>.<host>`."""
        count = hosts or self.count
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]),
        }
        started = []
        for i in range(count):
            command = [sys.executable, "-m", "facenet_jax", "train", "--config=quickstart", f"--workdir={workdir}"]
            command += [f"--coordinator={self.address(0)}:{PORT}", f"--processes={count}", f"--process={i}", *options]
            inside = ["unshare", "--uts", "bash", "-c", HOST, "host", f"h{i}", str(self.folder / "hosts"), *command]
            with self.said_in(workdir, i).open("ab") as said:
                started.append(
                    subprocess.Popen(
                        ["ip", "netns", "exec", self._host(i), *inside],
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=said,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        self._processes += started
        return started

    def said_in(self, workdir: Path, host: int) -> Path:
        return workdir.with_name(f"{workdir.name}.{host}")

    def said(self, workdir: Path, host: int) -> str:
        """The output of a host's processes of a run."""
        return self.said_in(workdir, host).read_text(errors="replace")

    def all_said(self, workdir: Path) -> str:
        """The output of all hosts, for the message of a failed test."""
        files = sorted(workdir.parent.glob(f"{workdir.name}.*"))
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-6000:]}" for file in files)

    def _host(self, host: int) -> str:
        return f"{self._prefix}-h{host}"

    def _switch(self, words: str) -> None:
        command = ["ip", *words.format(switch=f"{self._prefix}-switch").split()]
        subprocess.run(command, check=True, capture_output=True)


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def until(true: Callable[[], object], seconds: float, otherwise: Callable[[], str], pause: float = 0.2) -> None:
    """Waits for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(pause)


def ended(processes: list[subprocess.Popen[bytes]]) -> bool:
    return all(process.poll() is not None for process in processes)
