"""Joining a job: what would hang or end the process without a sentence is told first."""

import os
import socket
import subprocess
import sys

import pytest

ALONE = """
import sys
from facenet_jax.cli import main
from facenet_jax.runtime import hosts
hosts.JOIN_SECONDS = 6.0
hosts._SAY_SECONDS = 2.0
sys.exit(main(["train", *sys.argv[1:]]))
"""


def run(coordinator, *more, **environment):
    """One process with some options of a job: what it printed, once it has ended as by bad input."""
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, f"--coordinator={coordinator}", *more],
        env=os.environ | {"JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("process", [0, 1])
def test_a_process_whose_others_do_not_come_says_so_and_gives_up(process, port):
    said = run(f"localhost:{port}", "--processes=2", f"--process={process}")
    assert f"waiting for all 2 processes at localhost:{port}, up to " in said
    assert f"not all 2 processes came at localhost:{port} within 6 s (this is process {process})" in said


def test_a_host_name_that_cannot_be_looked_up_is_one_sentence():
    said = run("no-such-host.invalid:8512", "--processes=2", "--process=1")
    assert "the host name no-such-host.invalid cannot be looked up" in said
    assert said.count("\n") == 1


def test_a_port_that_is_taken_is_one_sentence():
    with socket.create_server(("", 0)) as taken:
        number = taken.getsockname()[1]
        said = run(f"localhost:{number}", "--processes=2", "--process=0")
    assert f"cannot listen on port {number} (Address already in use)" in said
    assert said.count("\n") == 1


def test_no_proxy_is_asked_for_the_way_to_the_coordinator(port):
    proxies = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "elsewhere"}
    said = run(f"localhost:{port}", "--processes=1", "--process=0", "--config=no-such-config", **proxies)
    assert "no-such-config" in said
