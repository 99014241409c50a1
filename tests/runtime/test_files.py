"""Files of a run, on a disk and in a bucket, are written whole or not at all."""

import builtins
import errno
import fcntl
import json
import os
import pathlib
import sys
import threading
from unittest.mock import Mock

import numpy as np
import pytest
from tensorboardX import record_writer

from buckets import MemoryBucket, bucket  # noqa: F401
from facenet_jax.cli import main
from facenet_jax.datasets.folder import FolderSource
from facenet_jax.errors import InputError
from facenet_jax.runtime import checkpoints, files
from facenet_jax.runtime.files import append, held_folder, in_bucket, locate, locked, new_folder, write_whole
from facenet_jax.training import loop
from facenet_jax.training.metrics import read_metrics
from tiny import TINY


@pytest.fixture(params=["disk", "bucket"])
def folder(request, tmp_path):
    return locate(str(tmp_path) if request.param == "disk" else request.getfixturevalue("bucket"))


def test_files_are_written_and_grow(folder):
    write_whole(folder / "a.json", b"one")
    write_whole(folder / "a.json", b"two")
    append(folder / "lines", b"1\n")
    append(folder / "lines", b"2\n")
    assert (folder / "a.json").read_bytes() == b"two"
    assert (folder / "lines").read_bytes() == b"1\n2\n"
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "lines"]


def test_a_failed_write_leaves_the_file_unchanged(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", b"before")

    def full(descriptor):
        raise OSError("no space")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(tmp_path / "a", b"after")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"before")]


def test_two_machines_may_write_the_same_file_at_once(tmp_path, monkeypatch):
    sync = os.fsync

    def other_first(descriptor):
        monkeypatch.setattr("os.fsync", sync)
        write_whole(tmp_path / "a", b"theirs")  # with the same process number
        assert (tmp_path / "a").read_bytes() == b"theirs"
        sync(descriptor)

    monkeypatch.setattr("os.fsync", other_first)
    write_whole(tmp_path / "a", b"ours")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"ours")]


class Events:
    """A stand-in for Google's client, which notes where TensorBoard's events are written."""

    def __init__(self):
        self.paths = []

    def directory_check(self, path):
        pass

    def open(self, path):
        self.paths.append(path)
        return self

    def write(self, data):
        pass

    def flush(self):
        pass

    def close(self):
        pass


def test_a_run_in_a_bucket_opens_no_file_there(bucket, tmp_path, monkeypatch, capsys):  # noqa: F811
    # Orbax would connect to Google, so only its checkpoints are on a disk.
    disk = checkpoints.Checkpoints
    asked, events = [], Events()

    def on_disk(workdir, **options):
        asked.append(str(workdir))
        return disk(tmp_path, **options)

    monkeypatch.setattr(loop, "Checkpoints", on_disk)
    monkeypatch.setitem(record_writer.REGISTERED_FACTORIES, "gs", events)
    opened, plainly = [], builtins.open

    def watched(file, *rest, **more):
        opened.append(file)
        return plainly(file, *rest, **more)

    monkeypatch.setattr(builtins, "open", watched)
    monkeypatch.chdir(tmp_path)
    workdir = locate(f"{bucket}/runs/one")
    command = ["train", "--config=quickstart", f"--workdir={workdir}", *TINY]
    offline = ["--config.offline.every=3", "--config.offline.faces=40"]
    assert main([*command, *offline]) == 0
    assert asked == [f"{bucket}/runs/one"]
    assert not [file for file in opened if "gs:" in str(file) or "/gs/" in str(file)]
    assert not [file for file in tmp_path.rglob("*") if "gs:" in file.parts or "bucket" in file.parts]
    assert [row["step"] for row in read_metrics(workdir) if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert json.loads((workdir / "report.json").read_text())["step"] == 6
    for picture in ("roc.png", "loss.png"):
        assert (workdir / picture).read_bytes().startswith(b"\x89PNG")
    with (workdir / "offline" / "3.npz").open("rb") as file:
        assert len(np.load(file)["anchors"])
    assert all(path.startswith(f"{bucket}/runs/one/tensorboard/") for path in events.paths)
    assert events.paths
    said = capsys.readouterr().out
    assert f"{workdir}/roc.png" in said
    assert main([*command, *offline]) == 0
    assert "this run is finished" in capsys.readouterr().out


def test_checkpoints_of_a_bucket_are_saved_in_the_bucket(bucket, monkeypatch):  # noqa: F811
    manager = Mock(**{"return_value.all_steps.return_value": []})
    monkeypatch.setattr(checkpoints.ocp, "CheckpointManager", manager)
    checkpoints.Checkpoints(locate(f"{bucket}/runs/one"))
    assert str(manager.call_args.args[0]) == f"{bucket}/runs/one/checkpoints"


@pytest.mark.parametrize("fails", [OSError("Forbidden: b/bucket/o\nmore"), RuntimeError("no credentials"), None])
def test_an_unreachable_bucket_is_refused_in_one_sentence(bucket, monkeypatch, capsys, fails, tmp_path):  # noqa: F811
    def info(self, path):
        if fails:
            raise fails
        threading.Event().wait()

    monkeypatch.setattr(MemoryBucket, "info", info)
    monkeypatch.setattr(files, "_REACH_SECONDS", 0.2)
    commands = (
        ["train", f"--workdir={bucket}/run", *TINY],
        ["evaluate", "holdout", f"--embedder={bucket}/run"],
        ["report", f"{bucket}/run"],
        ["export", f"{bucket}/run", "--to=onnx", f"--out={tmp_path / 'out.onnx'}"],
    )
    for command in commands:
        assert main(command) == 2
        said = capsys.readouterr().err
        why = str(fails).splitlines()[0] if fails else "no answer within 0.2 seconds"
        assert f"{bucket}/run cannot be reached ({why})" in said
        assert said.count("\n") == 1


def test_unsupported_uses_of_a_bucket_are_refused_in_one_sentence(bucket, capsys, monkeypatch):  # noqa: F811
    assert main(["train", f"--workdir={bucket}/run", "--trace=2", *TINY]) == 2
    assert "a profile is written to a disk" in capsys.readouterr().err
    for root in (f"{bucket}/faces", pathlib.Path(f"{bucket}/faces")):
        with pytest.raises(InputError, match="cannot be read from the bucket itself: mount it"):
            FolderSource(root)


def test_a_missing_library_for_buckets_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=r"make setup EXTRAS=gcs"):
        locate("gs://bucket/run")


def test_a_path_on_disk_is_not_in_a_bucket(tmp_path):
    assert not in_bucket(locate(str(tmp_path)))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_reported_and_used(number, tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path / ".lock"):
        said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{tmp_path / '.lock'} cannot be locked ({os.strerror(number)})" in said


def test_new_folders_that_stay_empty_are_removed(tmp_path):
    folder = tmp_path / "a" / "b"
    with held_folder(folder):
        assert (folder / ".lock").is_file()
        with pytest.raises(BlockingIOError), held_folder(folder):
            pass
        assert (folder / ".lock").is_file()
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "result").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "result"]
    with held_folder(tmp_path / "a"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "result"]


def test_a_lock_removed_while_another_opens_it_is_not_held_twice(tmp_path, monkeypatch):
    path = tmp_path / ".lock"
    whole = fcntl.flock

    def flock(file, how):
        monkeypatch.setattr("fcntl.flock", whole)
        path.unlink()  # by the process that held it, after this one opened the file and before it locks it
        whole(file, how)

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(path), pytest.raises(BlockingIOError):
        locked(path)
