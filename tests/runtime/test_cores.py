"""The number of cores that a process may use."""

import os

import pytest

from facenet_jax.runtime import cores


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({}, 64),
        # A unit of systemd or a job of a batch system: the limit is on the process's own group or one that contains it.
        ({"own": "0::/system.slice/run.service", "system.slice/run.service/cpu.max": "200000 100000"}, 2),
        ({"own": "1:cpu:/x\n0::/a/b", "a/b/cpu.max": "max 100000", "a/cpu.max": "500000 100000"}, 5),
        ({"own": "0::/a", "other/cpu.max": "100000 100000"}, 64),
    ],
)
def test_a_container_limits_the_cores(tmp_path, monkeypatch, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.setattr(cores, "_CGROUP", tmp_path)
    monkeypatch.setattr(cores, "_OWN", tmp_path / "own")
    assert cores.usable_cores() == expected
