"""A command whose output can no longer be written finishes its work, and its exit code says so."""

import io
import os
import subprocess
import sys

import pytest

from facenet_jax import cli


class Refused(io.TextIOBase):
    """An output that cannot be written."""

    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error


@pytest.fixture
def finished(monkeypatch):
    """A command that prints before it writes its file; the list of what it has written."""
    done = []

    def run(arguments):
        print("a table")
        print("another", flush=True)
        done.append("file")
        return 0

    monkeypatch.setattr(cli, "_run", run)
    return done


def test_with_a_closed_pipe_files_are_written_and_nothing_is_printed(finished, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Refused(BrokenPipeError(32, "Broken pipe")))
    assert cli.main([]) == 141
    assert finished == ["file"]
    assert capsys.readouterr().err == ""


def test_with_a_full_output_files_are_written_and_the_error_reported(finished, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Refused(OSError(28, "No space left on device")))
    assert cli.main([]) == 1
    assert finished == ["file"]
    assert "standard output cannot be written (No space left on device); the files" in capsys.readouterr().err


def test_a_closed_standard_error_changes_nothing(finished, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Refused(BrokenPipeError(32, "Broken pipe")))
    assert cli.main([]) == 0
    assert "another" in capsys.readouterr().out


def test_a_failed_command_keeps_its_exit_code(monkeypatch, capsys):
    def run(arguments):
        print("begun")
        return 2

    monkeypatch.setattr(cli, "_run", run)
    monkeypatch.setattr(sys, "stdout", Refused(BrokenPipeError(32, "Broken pipe")))
    assert cli.main([]) == 2


@pytest.mark.parametrize("arguments", [["config", "quickstart"], ["--help"]])
def test_the_exit_code_of_a_process(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "facenet_jax", *arguments]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert ended.returncode == 1
        assert ended.stderr.count("\n") == 1
        assert "No space left on device" in ended.stderr
