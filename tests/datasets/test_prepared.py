"""A prepared dataset as a source."""

import json
import pickle
import shutil

import numpy as np
import pytest

from facenet_jax.config import load_config
from facenet_jax.datasets import prepared as module
from facenet_jax.datasets.folder import FolderSource
from facenet_jax.datasets.prepared import PreparedSource, shard_name
from facenet_jax.errors import InputError
from facenet_jax.images.decode import BadFace, Reason
from facenet_jax.input.loader import Loader
from facenet_jax.input.plan import BatchPlan
from facenet_jax.prepare import job
from facenet_jax.training.training_faces import open_faces
from preparing import prepared


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "faces"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "_LEAST_FACES", 8)
        patch.setattr(job, "_SHARDS", 10)
        prepared(photos, out)
    return out


@pytest.fixture
def dataset(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "faces")


def test_it_gives_what_the_folder_gives(photos, whole):
    folder, source = FolderSource(photos), PreparedSource(whole)
    assert list(source.index.names) == list(folder.index.names)
    np.testing.assert_array_equal(source.index.offsets, folder.index.offsets)
    for record in (0, 7, 8, 63):
        np.testing.assert_array_equal(source.load(record, (20, 16)), folder.load(record, (20, 16)))
        assert source.files[record] in folder.describe(record)
        assert source.files[record] in source.describe(record)
        assert shard_name(record // 8, 8) in source.describe(record)


def test_only_the_path_is_pickled(whole):
    source = PreparedSource(whole)
    source.load(3, (8, 8))
    data = pickle.dumps(source)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).load(9, (8, 8)), source.load(9, (8, 8)))


def test_only_so_many_shards_are_open_at_once(whole, monkeypatch):
    expected = [PreparedSource(whole).read(record) for record in range(64)]
    monkeypatch.setattr(module, "_OPEN_SHARDS", 2)
    source = PreparedSource(whole)
    for record in np.random.default_rng(0).permutation(64).tolist():
        assert source.read(record) == expected[record]
        assert len(source._readers) <= 2


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_skips_a_damaged_record(dataset, workers):
    source = PreparedSource(dataset)
    victim, data = 11, source.read(11)
    shard = dataset / shard_name(1, 8)
    content = bytearray(shard.read_bytes())
    at = bytes(content).find(data)
    content[at + len(data) // 2] ^= 1
    shard.write_bytes(content)
    source = PreparedSource(dataset)
    with pytest.raises(BadFace) as caught:
        source.load(victim, (8, 8))
    assert caught.value.reason is Reason.UNREADABLE
    assert source.load(victim + 1, (8, 8)).shape == (8, 8, 3)
    plan = BatchPlan(source.index, size=64, faces_per_identity=5, random_negatives=4, seed=0)
    with Loader(source, plan, (16, 16), 64, workers=workers)(1, 2) as batches:
        _, batch = next(batches)
    bad = batch.records == victim
    assert bad.sum() == 1
    assert not batch.valid[bad].any()
    assert batch.status[bad] == Reason.UNREADABLE
    assert batch.valid[(batch.records >= 0) & ~bad].all()


def test_a_config_names_it_like_a_folder(photos, whole):
    by_folder, by_dataset = (
        open_faces(load_config("quickstart", [f"--config.data.path={path}", "--config.eval.holdout=0.3"]))
        for path in (photos, whole)
    )
    np.testing.assert_array_equal(by_folder.train_identities, by_dataset.train_identities)
    np.testing.assert_array_equal(by_folder.held_out.records, by_dataset.held_out.records)


def test_an_unfinished_dataset_is_refused(photos, tmp_path):
    prepared(photos, tmp_path / "faces", share=(0, 2))
    with pytest.raises(InputError, match=r"is not finished: .*facenet-jax merge"):
        open_faces(load_config("quickstart", [f"--config.data.path={tmp_path / 'faces'}"]))


def edit(dataset, **changes):
    card = dataset / "card.json"
    content = json.loads(card.read_text()) | changes
    content.pop("checksum", None)  # as older cards are
    card.write_text(json.dumps(content))


def test_a_card_that_disagrees_with_its_shards_is_refused(dataset):
    def said(match):
        with pytest.raises(InputError, match=match):
            PreparedSource(dataset)

    card = (dataset / "card.json").read_text()
    shard = dataset / shard_name(3, 8)
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    said(r"faces-00003-of-00008\.array_record has [\d,]+ bytes, not [\d,]+")
    shard.unlink()
    said(r"faces-00003-of-00008\.array_record cannot be read")
    shard.write_bytes(data)
    edit(dataset, records=65)
    said("its shards do not add up to 65 records")
    (dataset / "card.json").write_text(card)
    edit(dataset, identities=15)
    said("does not give 15 identities 64 records")
    (dataset / "card.json").write_text(card)
    looks = dataset / "index" / "looks.npy"
    np.save(looks, np.load(looks)[:-1])
    said(r"looks\.npy has 63 entries, not 64")
    looks.unlink()
    said("its index cannot be read")


def test_a_shard_with_another_number_of_records_is_refused(dataset):
    counts = [8] * 8
    counts[2], counts[3] = 7, 9
    edit(dataset, shard_records=counts)
    source = PreparedSource(dataset)
    assert source.load(0, (8, 8)).shape == (8, 8, 3)
    with pytest.raises(InputError, match=r"faces-00002-of-00008\.array_record holds 8 records, not 7"):
        source.load(17, (8, 8))
    edit(dataset, shard_records=[8] * 8)
    shard = dataset / shard_name(0, 8)
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(InputError, match="holds no records that can be read"):
        PreparedSource(dataset).load(0, (8, 8))


def test_a_missing_or_malformed_card_is_refused(dataset, tmp_path):
    with pytest.raises(InputError, match=r"it has no card\.json"):
        PreparedSource(tmp_path)
    edit(dataset, version=2)
    with pytest.raises(InputError, match="facenet-jax faces 2; this program reads facenet-jax faces 1"):
        PreparedSource(dataset)
    edit(dataset, version=1, colour="red")
    with pytest.raises(InputError, match="cannot be read"):
        PreparedSource(dataset)
    for text in ("{", "[]", "{}"):
        (dataset / "card.json").write_text(text)
        with pytest.raises(InputError, match="cannot be read"):
            PreparedSource(dataset)


def test_a_digest_in_the_card_that_changed_on_disk_is_noticed(dataset):
    card = dataset / "card.json"
    digest = json.loads(card.read_text())["digest"]
    card.write_text(card.read_text().replace(digest, digest[::-1]))
    with pytest.raises(InputError, match=r"card\.json cannot be read \(its checksum is another\)"):
        PreparedSource(dataset)
    edit(dataset)  # without a checksum, as older cards are, the change goes unnoticed
    assert PreparedSource(dataset).digest == digest[::-1]
