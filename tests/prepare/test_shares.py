"""One dataset made by several processes and machines."""

import errno
import fcntl
import os
import shutil

import pytest

from facenet_jax.errors import InputError
from facenet_jax.prepare import job, prepare
from facenet_jax.prepare.merge import merge
from preparing import contents, crowd, prepared


def test_any_number_of_workers_and_shares_gives_the_same_bytes(tmp_path, small_shards):
    source = crowd(tmp_path / "photos", 7, 5)
    prepared(source, tmp_path / "one")
    prepared(source, tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    for share in (2, 0):
        assert prepared(source, tmp_path / "shares", share=(share, 3)).summary is None
    with pytest.raises(InputError, match=r"of the 5 shards of .* are not done \(the first is 1\)"):
        merge(tmp_path / "shares")
    prepared(source, tmp_path / "shares", share=(1, 3))
    shutil.rmtree(source)  # merging does not need it
    assert merge(tmp_path / "shares").faces == 35
    assert contents(tmp_path / "shares") == contents(tmp_path / "one")
    assert merge(tmp_path / "shares").faces == 35  # again: the same report
    with pytest.raises(InputError, match="Nothing was prepared"):
        merge(tmp_path)


def test_two_processes_in_one_folder_are_refused(tmp_path):
    source = crowd(tmp_path / "photos", 2, 2)
    holder = job.Workplace(tmp_path / "out")
    for share in ((0, 1), (0, 2)):
        with pytest.raises(InputError, match="another process prepares into"):
            prepared(source, tmp_path / "out", share=share)
    holder.close()
    holders = [job.Workplace(tmp_path / "out", (0, 2)), job.Workplace(tmp_path / "out", (1, 2))]
    with pytest.raises(InputError, match="another process prepares into"):
        prepared(source, tmp_path / "out", share=(1, 2))
    with pytest.raises(InputError, match="another process prepares into"):
        prepared(source, tmp_path / "out")
    for holder in holders:
        holder.close()
    assert prepared(source, tmp_path / "out").summary.faces == 4


@pytest.mark.parametrize("share", [(0, 1), (1, 2)])
def test_a_disk_without_locks_is_reported_and_used(share, tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    source = crowd(tmp_path / "photos", 2, 2)
    prepared(source, tmp_path / "out", share=share)
    assert "cannot be locked (Function not implemented)" in capsys.readouterr().err


def test_locks_work_as_on_nfs(tmp_path, monkeypatch):
    # There flock acts as lockf, which needs a file to be open for reading to lock it for reading.
    monkeypatch.setattr(job.fcntl, "flock", fcntl.lockf)
    for share in ((0, 2), (0, 1)):
        job.Workplace(tmp_path / "out", share).close()


def test_a_share_joins_the_job_that_another_began_first(tmp_path, monkeypatch):
    source = crowd(tmp_path / "photos", 2, 2)
    list_names = os.listdir

    def other_first(folder):
        monkeypatch.setattr("os.listdir", list_names)
        assert prepared(source, tmp_path / "out", share=(0, 2)).faces == 4
        return list_names(folder)

    monkeypatch.setattr("os.listdir", other_first)
    assert prepared(source, tmp_path / "out", share=(1, 2)).faces == 0  # all four are in the first shard
    assert merge(tmp_path / "out").faces == 4


def test_two_machines_may_write_the_names_at_once(tmp_path, monkeypatch):
    source = crowd(tmp_path / "photos", 2, 2)
    write = prepare.write_names

    def other_too(*arguments):
        monkeypatch.setattr(prepare, "write_names", write)
        write(*arguments)
        assert prepared(source, tmp_path / "out", share=(0, 2)).faces == 4  # with the same process number

    monkeypatch.setattr(prepare, "write_names", other_too)
    assert prepared(source, tmp_path / "out", share=(1, 2)).faces == 0
    assert merge(tmp_path / "out").faces == 4
