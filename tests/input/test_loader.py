"""The loader gives the same batches with any number of workers and hosts, and reports what goes wrong in workers."""

import errno
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from facenet_jax.errors import InputError, TrainingError
from facenet_jax.images.decode import Reason
from facenet_jax.input import loader
from facenet_jax.input.loader import Loader, embedding_batches
from facenet_jax.input.plan import BatchPlan
from facenet_jax.input.ring import Ring
from stub_faces import BAD, SIZE, Stub, assert_same

SEED = 5


PLAN = BatchPlan(Stub().index, size=150, faces_per_identity=6, random_negatives=40, seed=SEED)


def make_loader(source: Stub | None = None, **values) -> Loader:
    return Loader(source or Stub(bad=BAD), PLAN, SIZE, **{"padded_size": 160, **values})


@pytest.fixture(autouse=True)
def slabs_of_64_rows(monkeypatch):
    """Batches come in several slabs, the last one smaller."""
    monkeypatch.setattr(loader, "_SLAB_ROWS", 64)


@pytest.fixture(scope="module")
def expected():
    with make_loader()(3, 7) as batches:
        return list(batches)


def test_rows_are_the_plans_faces_padded_and_masked(expected):
    assert [step for step, _ in expected] == [3, 4, 5, 6]
    for step, batch in expected:
        records, labels = PLAN.batch(step)
        np.testing.assert_array_equal(batch.records, [*records, *[-1] * 10])
        np.testing.assert_array_equal(batch.labels, [*labels, *[-1] * 10])
        np.testing.assert_array_equal(batch.valid, [*~np.isin(records, BAD), *[False] * 10])
        np.testing.assert_array_equal(batch.status, [*np.isin(records, BAD) * Reason.TRUNCATED, *[0] * 10])
        assert batch.images.shape == (160, *SIZE, 3)
        assert [a.dtype for a in batch] == [np.uint8, np.int32, np.bool_, np.int64, np.uint8]
        assert not batch.images[~batch.valid].any()
        for row in np.flatnonzero(batch.valid):
            np.testing.assert_array_equal(batch.images[row], Stub().load(int(records[row]), SIZE))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_from_any_number_of_workers_which_end_when_left(expected, workers):
    with make_loader(workers=workers)(3, 10**9) as batches:
        assert_same([next(batches) for _ in range(4)], expected)
    assert multiprocessing.active_children() == []
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_lent_batches_are_valid_until_the_next_is_asked_for(expected, workers):
    with make_loader(workers=workers)(3, 10**9, lent=True) as batches:
        for lent_step, batch in expected:
            step, lent = next(batches)
            assert step == lent_step
            time.sleep(0.3)  # long enough to load all that is loaded ahead
            assert_same([(step, lent)], [(step, batch)])


def test_a_ring_that_overwrites_a_batch_too_soon_is_noticed(monkeypatch):
    monkeypatch.setattr(Loader, "_ring", lambda loader, lent: Ring(2, (160, *SIZE, 3), 64))
    with make_loader()(3, 10**9, lent=True) as batches:
        next(batches)
        time.sleep(0.3)
        with pytest.raises(RuntimeError, match="was overwritten before it was read"):
            next(batches)


def test_no_file_is_left_open():
    def opened() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    with make_loader(workers=1)(0, 2) as batches:
        list(batches)
    before = opened()
    with make_loader(workers=1)(0, 2) as batches:
        next(batches)
    del batches
    assert opened() <= before


def test_batches_are_the_same_from_any_start(expected):
    with make_loader()(5, 7) as batches:
        assert_same(list(batches), expected[2:])
    with make_loader()(7, 7) as batches:
        assert list(batches) == []


def test_the_slices_of_all_hosts_make_up_the_batch(expected):
    hosts = []
    for process_index in range(4):
        with make_loader(process_index=process_index, process_count=4)(3, 7) as batches:
            hosts.append(list(batches))
    joined = [
        (step, type(batch)(*(np.concatenate(parts) for parts in zip(*(host[i][1] for host in hosts), strict=True))))
        for i, (step, batch) in enumerate(hosts[0])
    ]
    assert_same(joined, expected)


def test_a_host_reads_only_its_slice():
    read: list[int] = []

    class Counted(Stub):
        def load(self, record: int, size: tuple[int, int]) -> np.ndarray:
            read.append(record)
            return super().load(record, size)

    for process_index in range(4):
        read.clear()
        with make_loader(Counted(), process_index=process_index, process_count=4)(3, 5) as batches:
            rows = [batch.records for _, batch in batches]
        expected = [record for batch in rows for record in batch if record >= 0]
        assert sorted(read) == sorted(expected)
        assert len(expected) == 2 * (40 if process_index < 3 else 30)


def test_an_error_of_a_worker_is_raised():
    for workers in (0, 1):
        with (
            make_loader(Stub(raising=int(PLAN.batch(1).records[77])), workers=workers)(0, 10) as batches,
            pytest.raises(RuntimeError, match="CannotBePickled"),
        ):
            list(batches)
    assert multiprocessing.active_children() == []


def test_the_death_of_a_worker_is_raised():
    with (
        make_loader(Stub(dying=int(PLAN.batch(1).records[77])), workers=1)(0, 10) as batches,
        pytest.raises(TrainingError, match=r"has died .* exit code -9"),
    ):
        list(batches)
    assert multiprocessing.active_children() == []


SCRIPT = """
import multiprocessing
import os
import signal
import sys

import jax._src.xla_bridge
import numpy as np
from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.input.loader import embedding_batches

class Source:
    index = IdentityIndex(["a"], np.array([0, 100]))
    digest = ""
    def load(self, record, size):
        assert not jax._src.xla_bridge._backends, "a worker has started a device"
        return np.full((*size, 3), record, np.uint8)
    def describe(self, record):
        return ""

if __name__ == "__main__":
    batches = embedding_batches(Source(), np.arange(100), (40, 40), 10, workers=1)
    next(batches)
    if sys.argv[1] == "killed":
        print(multiprocessing.active_children()[0].pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    print(sum(int(batch.images[batch.valid].mean()) for batch in batches))
    # Never closed, and with more workers than a batch has pieces.
    batches = embedding_batches(Source(), np.arange(100), (40, 40), 10, workers=2)
    next(batches)
"""


@pytest.mark.parametrize("how", ["ends", "killed"])
def test_workers_of_a_console_script_touch_no_device_and_end_with_it(how, tmp_path):
    script = tmp_path / "console-script"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "error", script, how], capture_output=True, text=True, timeout=120, check=False
    )
    if how == "ends":
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{sum(range(14, 100, 10))}\n", "")
        return
    assert done.returncode == -signal.SIGKILL
    for _ in range(100):
        if not os.path.exists(f"/proc/{int(done.stdout)}"):
            return
        time.sleep(0.1)
    pytest.fail("the worker lives on")


def test_a_full_dev_shm_is_reported_with_what_to_lower(monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", full)
    with make_loader(Stub(), workers=1)(0, 10) as batches, pytest.raises(OSError, match="lower --config") as caught:
        list(batches)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/shm")


def test_a_worker_that_cannot_start_is_not_reported_as_out_of_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-", "ends"],
        input=SCRIPT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    sentence = done.stderr.strip().splitlines()[-1]
    assert "has died" in sentence
    assert "a program that trains must be a file, its calls under `if __name__" in sentence
    assert "memory" not in sentence


def test_embedding_batches_are_in_order_and_padded():
    records = np.array([7, 3, 3, 199, 0, 23, 50])
    batches = list(embedding_batches(Stub(bad=(23,)), records, SIZE, 3))
    assert [batch.records.tolist() for batch in batches] == [[7, 3, 3], [199, 0, 23], [50, -1, -1]]
    assert [batch.valid.tolist() for batch in batches] == [[True] * 3, [True, True, False], [True, False, False]]
    for batch in batches:
        assert batch.images.shape == (3, *SIZE, 3)
        for record, image, ok in zip(batch.records, batch.images, batch.valid, strict=True):
            np.testing.assert_array_equal(image, Stub().load(int(record), SIZE) if ok else 0 * image)
    assert list(embedding_batches(Stub(), records[:0], SIZE, 3)) == []


def test_impossible_loaders_are_refused():
    with pytest.raises(InputError, match="160 rows cannot be divided among 3 hosts"):
        make_loader(process_count=3)
    with pytest.raises(InputError, match=r"data\.workers"):
        make_loader(workers=-1)
