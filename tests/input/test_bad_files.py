"""Bad files are counted and listed once, and too many of them are an error."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from facenet_jax.datasets.folder import FolderSource
from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.errors import InputError
from facenet_jax.images.decode import Reason
from facenet_jax.input import bad_files
from facenet_jax.input.bad_files import BadFiles
from facenet_jax.input.loader import Batch, Loader
from facenet_jax.input.plan import BatchPlan


class Source:
    digest = ""

    def __init__(self, faces: int) -> None:
        self.index = IdentityIndex(["a"], np.array([0, faces]))

    def load(self, record, size):
        raise NotImplementedError  # only names are asked for

    def describe(self, record):
        return f"/data/a/{record}.jpg"


def batch(records, bad=()) -> Batch:
    records = np.array(records, np.int64)
    status = np.where(np.isin(records, list(bad)), Reason.EMPTY, 0).astype(np.uint8)
    images = np.zeros((len(records), 2, 2, 3), np.uint8)
    return Batch(images, np.zeros(len(records), np.int32), (records >= 0) & (status == 0), records, status)


def test_each_bad_file_is_listed_once_also_after_a_resume(tmp_path):
    for _ in range(2):
        account = BadFiles(Source(200), tmp_path)
        account.update(batch([*range(50), -1, -1], bad=[7, 9]))
        account.update(batch([*range(25, 75), 9, -1], bad=[9, 70]))
        assert (account.seen, account.bad) == (101, 4)
        assert account.reasons == {7: Reason.EMPTY, 9: Reason.EMPTY, 70: Reason.EMPTY}
        lines = (tmp_path / "bad_files.txt").read_text().splitlines()
        assert lines == [f"/data/a/{record}.jpg\tempty file" for record in (7, 9, 70)]


def test_a_bad_file_in_a_folder_is_listed(tmp_path):
    for identity in "abc":
        (tmp_path / "faces" / identity).mkdir(parents=True)
        for face in range(4):
            Image.new("RGB", (20, 20), (9, 9, 9)).save(tmp_path / "faces" / identity / f"{face}.jpg")
    bad = tmp_path / "faces" / "b" / "2.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    source = FolderSource(tmp_path / "faces")
    plan = BatchPlan(source.index, size=12, random_negatives=0)
    account = BadFiles(source, tmp_path, max_bad_share=0.1)
    with Loader(source, plan, (16, 16), 16)(0, 3) as batches:
        for _, batch in batches:
            account.update(batch)
            assert batch.records[~batch.valid].tolist().count(6) == 1
            assert np.count_nonzero(batch.valid) == 11
    assert (account.seen, account.bad, account.reasons) == (36, 3, {6: Reason.TRUNCATED})
    assert (tmp_path / "bad_files.txt").read_text() == f"{bad}\ttruncated\n"


def test_without_bad_files_no_list_is_written(tmp_path):
    BadFiles(Source(200), tmp_path).update(batch(range(50)))
    assert not list(tmp_path.iterdir())


def test_odd_names_stay_on_one_line(tmp_path):
    source = Source(100)
    source.describe = lambda record: "a\tb\nc\udcff"
    for _ in range(2):
        BadFiles(source, tmp_path).update(batch(range(50), bad=[3]))
    assert (tmp_path / "bad_files.txt").read_bytes() == b"a\\tb\\nc\xff\tempty file\n"


def test_more_than_the_allowed_share_is_an_error(tmp_path):
    account = BadFiles(Source(10_000), tmp_path)
    account.update(batch(range(1200), bad=range(60)))
    sentence = r"^62 of the 1204 faces seen cannot be decoded, more than the 5% allowed: see .*bad_files\.txt, .*"
    with pytest.raises(InputError, match=sentence):
        account.update(batch([0, 1100, 1101, 1200], bad=[1100, 1101]))


def test_a_few_bad_files_in_a_small_first_batch_are_no_error(tmp_path):
    account = BadFiles(Source(10_000), tmp_path)
    account.update(batch(range(60), bad=range(50)))
    with pytest.raises(InputError, match="51 of the 61 faces"):
        account.update(batch([60], bad=[60]))


def test_a_small_folder_is_judged_by_all_of_its_faces(tmp_path):
    account = BadFiles(Source(100), tmp_path)
    account.update(batch(range(20), bad=range(5)))
    with pytest.raises(InputError, match="6 of the 40 faces"):
        account.update(batch(range(20, 40), bad=[30]))


def test_a_share_of_zero_allows_no_bad_file(tmp_path):
    with pytest.raises(InputError, match="1 of the 8 faces"):
        BadFiles(Source(10_000), tmp_path, max_bad_share=0).update(batch(range(8), bad=[3]))
    with pytest.raises(InputError, match="max_bad_share"):
        BadFiles(Source(10), tmp_path, max_bad_share=1.5)


def test_memory_does_not_grow_with_the_source(tmp_path):
    tracemalloc.start()
    BadFiles(Source(10**9), tmp_path).update(batch(range(50), bad=[3]))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_each_process_of_a_job_keeps_its_own_list(tmp_path, monkeypatch):
    # Each has opened its list before another has written to its own.
    accounts = [BadFiles(Source(200), tmp_path, process=process) for process in (0, 1)]
    monkeypatch.setattr(bad_files, "joined", lambda: True)
    monkeypatch.setattr(bad_files.jax, "process_index", lambda: 2)
    accounts.append(BadFiles(Source(200), tmp_path))
    for process, account in enumerate(accounts):
        account.update(batch(range(50), bad=[7, process]))
    for process, name in enumerate(("bad_files.txt", "bad_files-1.txt", "bad_files-2.txt")):
        lines = [f"/data/a/{record}.jpg\tempty file" for record in (process, 7)]
        assert (tmp_path / name).read_text().splitlines() == lines
    assert len(list(tmp_path.iterdir())) == 3
