"""Batches are copied to the devices while a step runs."""

import threading
from contextlib import closing
from functools import partial

import jax
import numpy as np
import pytest

from facenet_jax.datasets.drawn import DrawnFaces
from facenet_jax.errors import InputError
from facenet_jax.images.change import Changes
from facenet_jax.input.bad_files import BadFiles
from facenet_jax.input.loader import Batch
from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.training import device_batch
from facenet_jax.training.device_batch import prefetch

ROWS = 8
LONG = 60.0  # seconds; reached only if the test fails


def make_batch(step: int) -> Batch:
    records = np.arange(ROWS, dtype=np.int64)
    return Batch(
        np.full((ROWS, 4, 4, 3), step, np.uint8),
        np.arange(ROWS, dtype=np.int32),
        np.ones(ROWS, bool),
        records,
        np.zeros(ROWS, np.uint8),
    )


def test_the_next_batch_is_on_the_devices_before_it_is_taken(tmp_path):
    step_runs, read = threading.Event(), threading.Event()

    def batches():
        yield 0, make_batch(0)
        assert step_runs.wait(LONG)  # never set if next() waited for this batch
        yield 1, make_batch(1)

    class Seen(BadFiles):
        def update(self, batch: Batch) -> None:
            super().update(batch)
            if batch.images[0, 0, 0, 0] == 1:
                read.set()

    mesh = make_mesh(0)
    with closing(prefetch(batches(), mesh, Seen(DrawnFaces(0, 4, 4), tmp_path))) as on_devices:
        first, _ = next(on_devices)
        step_runs.set()
        assert read.wait(LONG)  # before anything asks for it
        second, waited = next(on_devices)
        assert next(on_devices, None) is None
    assert waited >= 0
    for step, batch in enumerate((first, second)):
        assert (np.asarray(batch.images) == step).all()
        np.testing.assert_array_equal(np.asarray(batch.labels), np.arange(ROWS))
        assert batch.numbers is None
        assert batch.images.sharding.mesh.size == mesh.size


def test_numbers_for_changes_belong_to_their_step_and_records(tmp_path):
    changes, records = Changes(zoom=0.2, mirror=True), np.array([7, 3, -1, 5, 6, 2, 9, 0])
    batches = iter([(step, make_batch(step)._replace(records=records)) for step in (4, 5)])
    draw = partial(changes.draw, 11, size=(4, 4))
    with closing(prefetch(batches, make_mesh(0), BadFiles(DrawnFaces(0, 4, 4), tmp_path), draw)) as on_devices:
        for step, (batch, _) in enumerate(on_devices, 4):
            np.testing.assert_array_equal(np.asarray(batch.numbers), changes.draw(11, step, records, (4, 4)))
            assert batch.numbers.sharding == batch.images.sharding


def test_the_next_batch_is_asked_for_after_the_last_is_on_the_devices(tmp_path, monkeypatch):
    ready = []

    def noted(batch):
        jax.tree.map(lambda part: part.block_until_ready(), batch)
        ready.append(int(batch.images[0, 0, 0, 0]))
        return batch

    def batches():
        for step in range(3):
            assert ready == list(range(step))
            yield step, make_batch(step)

    monkeypatch.setattr(device_batch.jax, "block_until_ready", noted)
    with closing(prefetch(batches(), make_mesh(0), BadFiles(DrawnFaces(0, 4, 4), tmp_path))) as on_devices:
        assert len(list(on_devices)) == 3


def test_an_error_is_raised_with_the_batch(tmp_path):
    def batches():
        yield 0, make_batch(0)
        raise InputError("on purpose")

    with closing(prefetch(batches(), make_mesh(0), BadFiles(DrawnFaces(0, 4, 4), tmp_path))) as on_devices:
        next(on_devices)
        with pytest.raises(InputError, match="on purpose"):
            next(on_devices)


def test_faces_without_an_old_point_are_masked(tmp_path):
    def old_points(records):
        return np.where(records[:, None] == 2, np.nan, records[:, None] + np.zeros(3)).astype(np.float32)

    bad_files, batches = BadFiles(DrawnFaces(0, 4, 4), tmp_path), iter([(0, make_batch(0))])
    with closing(prefetch(batches, make_mesh(0), bad_files, old_points=old_points)) as on_devices:
        batch, _ = next(on_devices)
    records = make_batch(0).records
    np.testing.assert_array_equal(np.asarray(batch.valid), records != 2)
    np.testing.assert_array_equal(np.asarray(batch.old), np.where(records == 2, 0, records)[:, None] + np.zeros(3))
