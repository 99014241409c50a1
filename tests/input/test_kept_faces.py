"""Decoded faces are kept, and each is decoded once."""

import os
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from facenet_jax.images.decode import BadFace, Reason
from facenet_jax.input.kept_faces import KeptFaces
from facenet_jax.input.loader import Loader
from facenet_jax.input.plan import BatchPlan
from stub_faces import BAD, SIZE, Stub, assert_same


@dataclass(frozen=True)
class Noted(Stub):
    """Notes which faces are decoded, in all processes."""

    notes: str = ""

    def load(self, record, size):
        file = os.open(self.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{record}\n".encode())
        os.close(file)
        return super().load(record, size)


def load(source, workers=0):
    plan = BatchPlan(source.index, size=150, faces_per_identity=6, random_negatives=40, seed=5)
    with Loader(source, plan, SIZE, 160, workers=workers)(0, 4) as batches:
        return list(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_and_each_face_is_decoded_once(workers, tmp_path):
    notes = tmp_path / "notes"
    kept = KeptFaces(Noted(bad=BAD, notes=str(notes)), SIZE)
    expected = load(Stub(bad=BAD))
    assert_same(load(kept, workers), expected)
    decoded = notes.read_text().split()
    needed = {record for _, batch in expected for record in batch.records[batch.records >= 0].tolist()}
    assert {int(record) for record in decoded} == needed
    assert len(decoded) <= len(needed) + (20 if workers else 8)  # two workers may load a face at the same time
    assert len(decoded) < 4 * 150  # the faces of the batches
    assert_same(load(kept), expected)
    assert notes.read_text().split() == decoded


def test_a_bad_face_is_remembered_in_other_processes_too(tmp_path):
    notes = tmp_path / "notes"
    kept = KeptFaces(Noted(bad=(7,), notes=str(notes)), SIZE)
    elsewhere = pickle.loads(pickle.dumps(kept))
    for each in (elsewhere, kept):
        with pytest.raises(BadFace) as error:
            each.load(7, SIZE)
        assert error.value.reason is Reason.TRUNCATED
        np.testing.assert_array_equal(each.load(8, SIZE), Stub().load(8, SIZE))
    assert notes.read_text().split() == ["7", "8"]
    assert elsewhere.load(8, (10, 10)).shape == (10, 10, 3)
    with pytest.raises(ValueError, match="read-only"):
        kept.load(8, SIZE)[...] = 0


def test_otherwise_it_behaves_as_the_source():
    source = Stub()
    kept = KeptFaces(source, SIZE)
    assert kept.digest == source.digest
    assert kept.index.records == 200
    assert kept.describe(3) == "stub/3"
    assert KeptFaces.bytes_of(source, SIZE) == 200 * (60 * 50 * 3 + 1)
