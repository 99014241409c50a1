"""Joining a job: what would otherwise hang or end the process without a message is reported first."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from facenet_jax.errors import InputError
from facenet_jax.runtime import joining

ALONE = """
import sys
from facenet_jax.cli import main
from facenet_jax.runtime import joining
joining.JOIN_SECONDS = 3.0
joining._SAY_SECONDS = 1.0
sys.exit(main(["train", *sys.argv[1:]]))
"""


def run(coordinator, *more, **environment):
    """Runs one process of a job, which must end with the code of bad input; what it printed."""
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


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.fixture
def port():
    return free_port()


@pytest.mark.parametrize("process", [0, 1])
def test_a_process_reports_missing_processes_and_gives_up(process, port):
    said = run(f"localhost:{port}", "--processes=2", f"--process={process}")
    assert f"waiting for 1 of 2 processes at localhost:{port}, up to " in said
    missing = "process 1 has not come" if process == 0 else "process 0 receives the others, and nothing answers there"
    assert f" s: {missing}" in said
    assert f"not all 2 processes came at localhost:{port} within 3 s (this is process {process})" in said


def test_an_unknown_host_name_is_refused_in_one_sentence():
    said = run("no-such-host.invalid:8512", "--processes=2", "--process=1")
    assert "the host name no-such-host.invalid cannot be looked up" in said
    assert said.count("\n") == 1


def test_a_port_in_use_is_refused_in_one_sentence():
    with socket.create_server(("", 0)) as taken:
        number = taken.getsockname()[1]
        said = run(f"localhost:{number}", "--processes=2", "--process=0")
    assert f"cannot listen on port {number} (Address already in use)" in said
    assert said.count("\n") == 1


def test_no_proxy_is_used_for_the_coordinator(port):
    proxies = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "elsewhere"}
    said = run(f"localhost:{port}", "--processes=1", "--process=0", "--config=no-such-config", **proxies)
    assert "no-such-config" in said


def test_a_job_under_slurm_waits_with_the_same_messages(port):
    slurm = {"JOB_ID": "7", "STEP_NODELIST": "localhost", "NTASKS": "3", "PROCID": "0", "LOCALID": "0"}
    cluster = {f"SLURM_{name}": value for name, value in slurm.items()} | {"JAX_COORDINATOR_PORT": str(port)}
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, "--distributed"],
        env=os.environ | {"JAX_PLATFORMS": "cpu", **cluster},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 2, ended.stderr
    assert f"waiting for 2 of 3 processes at localhost:{port}, up to " in ended.stderr
    assert "processes 1, 2 have not come (this is process 0)" in ended.stderr


def visit(port, process, processes, host="h"):
    """The messages of the first process to one that joins, until it closes the connection or says go."""
    until = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection(("localhost", port), timeout=60) as stream:
                about = {"job": "facenet-jax", "process": process, "processes": processes, "host": host}
                stream.sendall(json.dumps(about).encode() + b"\n")
                return [json.loads(line) for line in stream.makefile() if "missing" not in line]
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.1)


def received(port, processes):
    """The first process of a job, in a thread."""
    first = threading.Thread(target=joining.meet, args=(f"localhost:{port}", processes, 0))
    first.start()
    return first


def test_a_process_with_a_wrong_number_of_processes_is_refused_and_the_others_meet(port, capsys, monkeypatch):
    monkeypatch.setattr(joining, "_LISTEN_SECONDS", 1)  # for JAX's service, which is not started here
    first = received(port, 2)
    assert "--processes=3, process 0 with --processes=2" in visit(port, 1, 3)[0]["ended"]
    with socket.create_connection(("localhost", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(InputError, match="--processes=4"):
        joining.meet(f"localhost:{port}", 4, 3)
    assert first.is_alive()
    joining.meet(f"localhost:{port}", 2, 1)
    first.join(timeout=60)
    assert not first.is_alive()
    assert capsys.readouterr().err.count("refused: ") == 2


def test_two_processes_with_the_same_number_are_refused(port):
    first = received(port, 3)
    hello = b'{"job": "facenet-jax", "process": 1, "processes": 3, "host": "other"}\n'
    visit(port, 0, 3)  # refused, so it is listening
    with socket.create_connection(("localhost", port), timeout=60) as stream:
        stream.sendall(hello)
        assert json.loads(stream.makefile().readline()) == {"missing": [2]}
        with pytest.raises(InputError, match="there are two of process 1: on other and on "):
            joining.meet(f"localhost:{port}", 3, 1)
        joining_too = threading.Thread(target=joining.meet, args=(f"localhost:{port}", 3, 2))
        joining_too.start()
        assert '{"go": true}' in stream.makefile().read()
    for thread in (first, joining_too):
        thread.join(timeout=60)
        assert not thread.is_alive()


MEMBER = """
import sys, time
from facenet_jax.errors import InputError
from facenet_jax.runtime import heartbeat, hosts
heartbeat.SILENT_SECONDS, heartbeat._BEAT_SECONDS = 8.0, 1.0
process, port, fails = sys.argv[1:]
with hosts.member(f"localhost:{port}", 2, int(process)):
    hosts.all_say(True)
    time.sleep(3)  # until each knows the other's host name
    print("joined", flush=True)
    while process != fails:
        hosts.all_say(True)
        time.sleep(0.1)
    raise InputError("the cat sat on it.")
"""


def members(*failing):
    """Jobs of two processes that synchronise repeatedly once both have joined, until the process given fails. All jobs
    run at once, as they mostly wait."""
    numbers = [
        (process, port, fails) for port, fails in [(free_port(), fails) for fails in failing] for process in (0, 1)
    ]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(process), str(port), fails],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process, port, fails in numbers
    ]
    for job in started:
        assert "joined\n" in iter(job.stdout.readline, "")  # Gloo prints a line first
    return list(zip(started[::2], started[1::2], strict=True))


def test_a_process_that_stands_still_is_named_by_the_others_which_end():
    jobs = members("", "")
    for victim in range(2):
        jobs[victim][victim].send_signal(signal.SIGSTOP)
    try:
        said = [jobs[victim][1 - victim].communicate(timeout=200)[1] for victim in range(2)]
    finally:
        for victim in range(2):
            jobs[victim][victim].kill()
            jobs[victim][victim].communicate()
    for victim in range(2):
        assert jobs[victim][1 - victim].returncode == 1
        assert f"process {victim} on {socket.gethostname()} has not been heard of for" in said[victim]
        assert "stopped (SIGSTOP)" in said[victim]
        assert "Traceback" not in said[victim]


def test_an_error_of_one_process_is_told_by_the_others_with_its_code():
    for fails, jobs in enumerate(members("0", "1")):
        said = [job.communicate(timeout=200)[1] for job in jobs]
        assert "facenet-jax: the cat sat on it." in said[fails]
        assert f"process {fails} on {socket.gethostname()} has ended: the cat sat on it." in said[1 - fails]
        assert [job.returncode for job in jobs] == [2, 2]
        assert "Traceback" not in said[0] + said[1]
