"""Faces that are kept on the devices give the loader's batches, bit for bit."""

from contextlib import closing

import jax
import numpy as np
import pytest

from facenet_jax.input.loader import Loader
from facenet_jax.input.plan import BatchPlan
from facenet_jax.planning.hlo import collectives
from facenet_jax.runtime.mesh import make_mesh, over_batch, replicated
from facenet_jax.runtime.progress import Progress
from facenet_jax.training import device_faces
from facenet_jax.training.device_faces import DeviceFaces, bytes_on_device
from programs import FUSED_AS_USERS
from stub_faces import BAD, SIZE, Stub, assert_same


@pytest.mark.parametrize(("devices", "identities"), [(1, None), (8, np.arange(2, 17))])
def test_batches_equal_those_of_the_loader(devices, identities, monkeypatch):
    monkeypatch.setattr(device_faces, "_BLOCK", 64)  # several, the last not full
    source, mesh = Stub(bad=BAD), make_mesh(devices)
    plan = BatchPlan(source.index, identities, size=100, faces_per_identity=6, random_negatives=30, seed=5)
    records = source.index.records_of(np.arange(20) if identities is None else identities)
    kept = DeviceFaces(source, records, SIZE, mesh, 0, Progress(quiet=True))
    loader = Loader(source, plan, SIZE, 104)
    with loader(3, 7) as batches:
        expected = list(batches)
    with closing(kept.batches(loader, 3, 7)) as batches:
        picked = list(batches)
    assert all(batch.images.sharding.num_devices == devices for _, batch in picked)
    assert_same([(step, batch._replace(images=np.asarray(batch.images))) for step, batch in picked], expected)
    assert any(batch.status.any() for _, batch in picked)


def test_picking_needs_no_collectives():
    mesh = make_mesh(8)
    kept = DeviceFaces(Stub(), np.arange(200), SIZE, mesh, 0, Progress(quiet=True))
    places, valid = np.arange(64, dtype=np.int32), np.ones(64, bool)
    lowered = kept._pick.lower(kept._pixels, *map(kept._divided, (places, valid)))
    program = lowered.compile(compiler_options=FUSED_AS_USERS).as_text()
    assert "u8[8,60,50,3]" in program  # a device's rows
    assert not collectives(program)
    # The search finds one if there is one.
    gathered = jax.jit(lambda rows: rows, in_shardings=over_batch(mesh), out_shardings=replicated(mesh))
    program = gathered.lower(kept._divided(places)).compile(compiler_options=FUSED_AS_USERS)
    assert collectives(program.as_text())


def test_each_host_gets_its_rows():
    source = Stub()
    plan = BatchPlan(source.index, size=100, faces_per_identity=6, random_negatives=30, seed=5)
    loaders = [Loader(source, plan, SIZE, 104, process_index=process, process_count=2) for process in range(2)]
    rows = np.concatenate([loader.planned(4).records for loader in loaders])
    np.testing.assert_array_equal(rows, [*plan.batch(4).records, *[-1] * 4])
    kept = DeviceFaces(source, np.arange(200), SIZE, make_mesh(1), 0, Progress(quiet=True))
    _, batch = next(kept.batches(Loader(source, plan, SIZE, 104), 4, 5))
    np.testing.assert_array_equal(np.asarray(batch.images[0]), source.load(int(batch.records[0]), SIZE))


def test_the_predicted_memory_is_what_is_held(monkeypatch):
    monkeypatch.setattr(device_faces, "_BLOCK", 64)
    mesh = make_mesh(8)
    face = 3 * SIZE[0] * SIZE[1]
    assert bytes_on_device(200, SIZE, 160, mesh) == face * (256 + 64 + 40)
    kept = DeviceFaces(Stub(), np.arange(200), SIZE, mesh, 0, Progress(quiet=True))
    held = sum(shard.data.nbytes for shard in kept._pixels.addressable_shards if shard.device == jax.devices()[0])
    assert held == face * 256
