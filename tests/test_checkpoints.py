"""Checkpoints on a disk that takes no more."""

import errno
import resource
import signal

import jax
import pytest

from facenet_jax.checkpoints import Checkpoints


def test_what_the_disk_refuses_is_an_error_of_the_system(tmp_path):
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
