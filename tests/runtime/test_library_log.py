"""Libraries' output goes to a log; the screen shows the command's own messages."""

import os
import signal
import subprocess
import sys

import pytest

NOISE = """
import contextlib, logging, os, sys, threading, warnings
from pathlib import Path
from facenet_jax.runtime import library_log
library_log.watch("a command")
if sys.argv[2:]:
    library_log.keep_in(Path(sys.argv[2]))
print("of the command")
print("of the command too", file=sys.stderr)
if sys.argv[1] != "quiet":
    with contextlib.suppress(OSError):  # a full disk
        os.write(2, b"of a library in C\\n")
        os.write(1, b"of a library in C that takes the wrong stream\\n")
    logging.getLogger("absl").error("of a logger")
    warnings.warn("of a warning")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
if sys.argv[1] == "ends":
    os.write(2, b"F1128 09:34:39.252728   22796 client.h:80] I end you.\\n*** Check failure stack trace: ***\\n")
    os.abort()
if sys.argv[1] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def ended(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))

    def run(how, *folder):
        done = subprocess.run([sys.executable, "-c", NOISE, how, *folder], capture_output=True, text=True, timeout=100)
        assert done.stdout == "of the command\n"
        return done

    return run


@pytest.mark.parametrize("own", [False, True])
def test_the_screen_shows_the_commands_messages_and_the_log_has_the_others(tmp_path, ended, own):
    done = ended("noisy", *([str(tmp_path)] if own else []))
    assert (done.returncode, done.stderr) == (0, "of the command too\n")
    log = (tmp_path if own else tmp_path / "caches" / "facenet-jax") / "library.log"
    said = log.read_text()
    for words in ("in C\n", "wrong stream\n", "ERROR absl: of a logger\n", "of a warning", "ZeroDivisionError"):
        assert words in said


def test_there_is_no_log_without_library_output(tmp_path, ended):
    assert ended("quiet", str(tmp_path)).stderr == "of the command too\n"
    assert not (tmp_path / "library.log").exists()
    ended("quiet")
    assert not (tmp_path / "caches" / "facenet-jax" / "library.log").exists()


@pytest.mark.parametrize("own", [False, True])
def test_a_library_that_ends_the_process_is_reported(tmp_path, ended, own):
    done = ended("ends", *([str(tmp_path)] if own else []))
    log = (tmp_path if own else tmp_path / "caches" / "facenet-jax") / "library.log"
    assert done.returncode == -signal.SIGABRT
    assert done.stderr.splitlines()[1:] == [
        f"facenet-jax: a library ended this process: I end you.; all that it said is in {log}"
    ]
    assert "Check failure stack trace" in log.read_text()


def test_a_killed_process_is_not_reported_as_ended_by_a_library(ended):
    done = ended("killed")
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "of the command too\n")


def test_without_a_place_for_the_log_the_screen_still_shows_no_library_output(tmp_path, ended, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert ended("noisy", str(tmp_path / "nowhere")).stderr == "of the command too\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_log_on_a_full_disk_does_not_disturb_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    disk = tmp_path / "disk"
    disk.mkdir()
    fill = f'mount -t tmpfs -o size=64k none {disk} && head -c 65536 /dev/zero > {disk}/zeros; exec "$@"'
    mounted = ["unshare", "--mount", "bash", "-c", fill, "-"]
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system does not allow mounts")
    command = [*mounted, sys.executable, "-c", NOISE, "noisy", str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "of the command\n"), done.stderr
    assert done.stderr.splitlines()[-1] == "of the command too"
    assert "Traceback" not in done.stderr
