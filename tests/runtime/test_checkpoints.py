"""Checkpoints: full disks, the best one, and damage."""

import errno
import resource
import shutil
import signal

import jax
import pytest

from facenet_jax.errors import InputError
from facenet_jax.runtime.checkpoints import Checkpoints


def test_a_write_that_the_disk_refuses_is_an_oserror(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    state = {"params": {"w": jax.random.normal(jax.random.key(0), (1000, 1000))}, "opt_state": {}}
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        checkpoints.save(1, state, {}, None)
        with pytest.raises(OSError, match="File too large") as raised:
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert raised.value.errno == errno.EFBIG
    assert raised.value.filename == str(tmp_path / "checkpoints")


def test_a_checkpoint_is_not_begun_without_space_for_it(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    state = {"params": {"w": jax.numpy.ones((100, 100))}, "opt_state": {"sums": jax.numpy.ones((100, 100))}}
    checkpoints.save(1, state, {}, None)
    checkpoints.wait()
    disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk._replace(free=79_999))
    with pytest.raises(OSError, match=r"0\.1 MB where a checkpoint takes 0\.1 MB") as raised:
        checkpoints.save(2, state, {}, None)
    assert raised.value.errno == errno.ENOSPC
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["1"]
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk._replace(free=80_000))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, state, {}, None)
    checkpoints.close()
    assert checkpoints.steps() == [1, 2]


def test_the_best_checkpoint_is_kept_when_the_folder_is_reopened(tmp_path):
    state = {"params": {"w": jax.numpy.ones(3)}, "opt_state": {}}
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step, val in ((1, 0.5), (2, 0.9), (3, None), (4, 0.1)):
        checkpoints.save(step, state, {}, val)
    checkpoints.close()
    for step, val in ((5, 0.2), (6, None)):  # a resumed run
        checkpoints = Checkpoints(tmp_path, keep=1)
        assert checkpoints.best_or_latest() == 2
        checkpoints.save(step, state, {}, val)
        checkpoints.close()
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert (checkpoints.steps(), checkpoints.best_or_latest()) == ([2, 6], 2)


def test_without_a_measured_val_the_latest_is_used(tmp_path):
    state = {"params": {"w": jax.numpy.ones(3)}, "opt_state": {}}
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state, {}, None)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert (checkpoints.steps(), checkpoints.best_or_latest()) == ([2, 3], 3)


def test_val_may_be_set_after_saving(tmp_path):
    state = {"params": {"w": jax.numpy.ones(3)}, "opt_state": {}}
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, state, {}, None)
    for step, val in ((1, 0.9), (1, 0.1), (1, None), (7, 0.99)):  # the first counts; there is no checkpoint 7
        checkpoints.set_val(step, val)
    assert checkpoints.vals() == {1: 0.9}
    for step, val in ((2, 0.5), (3, None)):
        checkpoints.save(step, state, {}, val)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert (checkpoints.steps(), checkpoints.best_or_latest(), checkpoints.vals()) == ([1, 3], 1, {1: 0.9})


def test_val_in_orbax_metrics_of_older_runs_is_used(tmp_path):
    state = {"params": {"w": jax.numpy.ones(3)}, "opt_state": {}}
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, state, {}, None)
    checkpoints.close()
    for step, val in ((1, 0.5), (2, 0.9)):
        (tmp_path / "checkpoints" / str(step) / "metrics").mkdir()
        (tmp_path / "checkpoints" / str(step) / "metrics" / "metrics").write_text(f'{{"val": {val}}}')
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.best_or_latest() == 2
    checkpoints.save(4, state, {}, 0.7)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert (checkpoints.steps(), checkpoints.vals()) == ([2, 4], {2: 0.9, 4: 0.7})


def test_a_checkpoint_under_another_steps_name_is_named_and_left_out(tmp_path):
    state = {"step": jax.numpy.int32(6), "params": {"w": jax.numpy.ones(3)}, "opt_state": {}}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(6, state, {}, None)
    checkpoints.close()
    shutil.copytree(tmp_path / "checkpoints" / "6", tmp_path / "checkpoints" / "8")
    said, checkpoints = [], Checkpoints(tmp_path)
    with pytest.raises(InputError, match=r"checkpoints/8 holds step 6"):
        checkpoints.restore_params(8)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    assert checkpoints.restore_latest(shapes, said.append)[0] == 6
    assert "holds step 6" in said[0]
    assert checkpoints.steps() == [6]
    checkpoints.close()


def test_metadata_nested_too_deep_for_orbax_is_refused_in_one_sentence(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"params": jax.numpy.ones(3), "step": jax.numpy.int32(1)}, {}, None)
    checkpoints.close()
    (tmp_path / "checkpoints" / "1" / "_CHECKPOINT_METADATA").write_text("[" * 200_000)
    with pytest.raises(InputError, match=r"_CHECKPOINT_METADATA in .*checkpoints is damaged"):
        Checkpoints(tmp_path)
