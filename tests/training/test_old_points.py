"""A run that is compatible with an old network: the old points are computed once and used in every batch."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from evaluating import refused
from facenet_jax.cli import main
from facenet_jax.config import load_config
from facenet_jax.embedders import open_embedder
from facenet_jax.runtime.progress import Progress
from facenet_jax.training import old_points
from facenet_jax.training.old_points import FOLDER, OldPoints
from facenet_jax.training.training_faces import open_faces
from networks import saved_run
from same_run import params_at
from tiny import TINY


def train(workdir, *overrides):
    return main(["train", "--config=quickstart", f"--workdir={workdir}", *TINY, *overrides])


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return saved_run(tmp_path_factory.mktemp("runs") / "old", seed=7)


@pytest.fixture(scope="module")
def finished(old, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "new"
    assert train(workdir, f"--config.compatible_with={old}") == 0
    return workdir


def test_every_training_face_has_its_old_point(old, tmp_path):
    config = load_config("quickstart", [*TINY, f"--config.compatible_with={old}"])
    faces, points = open_faces(config), OldPoints(config)
    points.embed(faces, tmp_path, Progress(quiet=True))
    records = np.array([5, 0, 119, -1, 64])
    found = points.of(records)
    pixels = np.stack([faces.train.load(int(record), (32, 32)) for record in records[[0, 1, 2, 4]]])
    np.testing.assert_allclose(found[[0, 1, 2, 4]], open_embedder(old).embed(pixels), atol=1e-5)
    assert np.isnan(found[3]).all()


def test_old_points_are_computed_once(old, tmp_path, monkeypatch):
    config = load_config("quickstart", [*TINY, f"--config.compatible_with={old}"])
    faces, first, again = open_faces(config), OldPoints(config), OldPoints(config)
    first.embed(faces, tmp_path, Progress(quiet=True))
    monkeypatch.setattr(type(again._embedder), "embed", lambda *_: pytest.fail("embedded again"))
    again.embed(faces, tmp_path, Progress(quiet=True))
    np.testing.assert_array_equal(again.of(np.arange(120)), first.of(np.arange(120)))


def test_the_run_records_the_embedder_it_is_compatible_with(finished, old):
    digest = open_embedder(old).digest
    assert json.loads((finished / "run.json").read_text())["digests"]["compatible_with"] == digest
    assert open_embedder(str(finished)).compatible_with == digest
    assert open_embedder(old).compatible_with is None
    assert list((finished / FOLDER).glob("*/*.npz"))


def test_a_resumed_run_ends_like_one_that_never_stopped(finished, old, tmp_path):
    assert train(tmp_path / "run", f"--config.compatible_with={old}", "--config.steps=4") == 0
    assert train(tmp_path / "run", f"--config.compatible_with={old}") == 0
    jax.tree.map(np.testing.assert_array_equal, params_at(tmp_path / "run", 6), params_at(finished, 6))


def test_mistakes_are_refused_in_one_sentence(finished, old, tmp_path, capsys):
    other = saved_run(tmp_path / "other", seed=8)
    command = ["train", "--config=quickstart", *TINY]
    again = [*command, f"--workdir={finished}", "--config.steps=8"]
    assert "compatible with another embedder than config.compatible_with" in refused(
        capsys, *again, f"--config.compatible_with={other}"
    )
    assert "compatible_with=none is now" in refused(capsys, *again)
    fresh = [*command, f"--workdir={tmp_path / 'fresh'}"]
    wide = refused(capsys, *fresh, f"--config.compatible_with={old}", "--config.model.embedding_size=128")
    assert "gives points of 64 coordinates; points of 128 cannot be compared with them" in wide
    alone = ["--config.offline.every=2", "--config.offline.mode=alone", "--config.batch.size=18"]
    assert "offline.mode=alone selects none" in refused(capsys, *fresh, f"--config.compatible_with={old}", *alone)


def test_the_old_embedder_must_exist_and_a_job_needs_its_embeddings_in_a_file(old, tmp_path, monkeypatch):
    config = load_config("quickstart", [*TINY, f"--config.compatible_with={tmp_path / 'none'}"])
    with pytest.raises(old_points.InputError, match="give the working directory of a run"):
        OldPoints(config)
    config = load_config("quickstart", [*TINY, f"--config.compatible_with={old}"])
    monkeypatch.setattr(old_points.jax, "process_count", lambda: 2)
    with pytest.raises(old_points.InputError, match="within a job of several processes: give a file of its embeddings"):
        OldPoints(config)


def test_a_file_of_embeddings_counts_as_the_embedder_that_made_it(finished, old, tmp_path):
    config = load_config("quickstart", [*TINY, f"--config.compatible_with={old}"])
    faces, points = open_faces(config), OldPoints(config)
    points.embed(faces, tmp_path, Progress(quiet=True))
    index, records = faces.train.index, faces.train.index.records_of(faces.train_identities)
    places, people = list(faces.train.places()), list(index.names)
    names = [f"{people[index.identity_of(record)]}/{Path(places[record]).name}" for record in records]
    made = tmp_path / "old.npz"
    about = json.dumps({"embedder": "old", "digest": points.digest})
    np.savez(made, embeddings=points.of(records), names=names, about=about)
    assert train(tmp_path / "run", f"--config.compatible_with={made}") == 0
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, params_at(tmp_path / "run", 6), params_at(finished, 6))
    assert open_embedder(str(tmp_path / "run")).compatible_with == open_embedder(old).digest

    of_another_maker = tmp_path / "other.npz"
    np.savez(of_another_maker, embeddings=points.of(records), names=names, about="[1]")
    config.compatible_with = str(of_another_maker)
    opened = OldPoints(config)
    assert opened.digest == opened.given != points.digest
