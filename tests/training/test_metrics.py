"""Metrics are read back and cut off, as valid JSON; hooks; and the speed of a run."""

import json
from unittest.mock import Mock

import numpy as np

from buckets import bucket  # noqa: F401
from facenet_jax.runtime.files import locate
from facenet_jax.training import metrics as module
from facenet_jax.training.metrics import METRICS_FILE, Clock, MetricsWriter, read_metrics


def write(workdir, from_step, rows):
    writer = MetricsWriter(workdir, from_step)
    for step, values in rows:
        writer.write(step, values)
    writer.close()


def test_rows_are_read_back_and_later_ones_cut_off(tmp_path):
    write(tmp_path, 0, [(step, {"loss": step / 10}) for step in range(1, 6)])
    write(tmp_path, 3, [(4, {"loss": 9.0})])
    assert read_metrics(tmp_path) == [
        {"step": 1, "loss": 0.1},
        {"step": 2, "loss": 0.2},
        {"step": 3, "loss": 0.3},
        {"step": 4, "loss": 9.0},
    ]


def test_a_torn_line_is_dropped(tmp_path):
    write(tmp_path, 0, [(1, {"loss": 1.0})])
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 2, "lo')
    write(tmp_path, 1, [(2, {"loss": 2.0})])
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


def test_every_line_is_valid_json(tmp_path):
    write(tmp_path, 0, [(1, {"a": np.float32(np.nan), "b": float("inf"), "c": None, "d": np.float32(1) / 3, "e": 7})])
    line = (tmp_path / METRICS_FILE).read_text()
    assert json.loads(line) == {"step": 1, "a": None, "b": None, "c": None, "d": 0.333333, "e": 7}
    assert "NaN" not in line
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_in_a_bucket_rows_are_written_only_by_keep(bucket, monkeypatch):  # noqa: F811
    monkeypatch.setattr(module, "SummaryWriter", Mock())
    workdir = locate(f"{bucket}/run")
    writer = MetricsWriter(workdir, from_step=-1)
    writer.write(1, {"loss": 0.5})
    assert read_metrics(workdir) == []  # each write would send the whole file
    writer.keep()
    assert read_metrics(workdir) == [{"step": 1, "loss": 0.5}]


def test_no_metrics_are_no_rows(tmp_path):
    assert read_metrics(tmp_path) == []


def test_a_hook_gets_plain_rows_and_only_its_first_error_is_reported(tmp_path):
    seen, told = [], []

    def hook(step, values):
        seen.append((step, dict(values)))
        values.clear()
        if step > 1:
            raise (ValueError if step == 2 else SystemExit)(f"no network\nat {step}")

    writer = MetricsWriter(tmp_path, 0, hook, told.append)
    for step in range(1, 5):
        writer.write(step, {"loss": np.float32(step), "val": float("nan")})
    writer.close()
    assert seen == [(step, {"loss": float(step), "val": None}) for step in range(1, 5)]
    (line,) = told
    assert "failed at step 2 (ValueError: no network)" in line
    assert read_metrics(tmp_path) == [{"step": step, **values} for step, values in seen]


def test_the_clock_excludes_pauses_and_counts_waiting(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    clock = Clock(images=180)
    clock.restart()
    assert (clock.seconds_per_step, clock.images_per_second, clock.wait_share) == (0.0, 0.0, 0.0)
    for _ in range(4):
        now[0] += 2.0
        clock.step_done(waited=0.5)
    now[0] += 50.0
    clock.pause(50.0)
    assert (clock.seconds_per_step, clock.images_per_second, clock.wait_share) == (2.0, 90.0, 0.25)
