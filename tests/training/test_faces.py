"""Who is trained on and who is held out."""

import shutil

import numpy as np
import pytest

from facenet_jax.config import load_config
from facenet_jax.errors import InputError
from facenet_jax.training.faces import open_faces, open_held_out


def opened(*overrides):
    return open_faces(load_config("quickstart", list(overrides)))


def test_nobody_is_trained_on_and_held_out(photos):
    faces = opened(f"--config.data.path={photos}", "--config.eval.holdout=0.3")
    held_out = set(faces.held_out.source.index.identity_of(faces.held_out.records).tolist())
    assert len(held_out) == faces.held_out.identities >= 2
    assert not held_out & set(faces.train_identities.tolist())
    assert len(held_out) + len(faces.train_identities) == len(faces.train.index.names)


def test_drawn_people_held_out_lie_beyond_any_number_of_training_identities():
    faces = opened("--config.data.drawn.identities=8000000")
    train, held_out = faces.train.index.names, faces.held_out.source.index.names
    assert train[7_999_999] == "drawn-7999999"
    assert len(train) == 8_000_000
    assert int(held_out[0].removeprefix("drawn-")) >= 10**9
    with pytest.raises(InputError, match="at most"):
        opened("--config.data.drawn.identities=1000000001")


def test_the_fingerprints_tell_faces_and_who_is_held_out_apart(photos, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    for person in other.iterdir():
        person.rename(other / f"new {person.name}")
    base = f"--config.data.path={photos}"
    share, more, elsewhere = (
        opened(base),
        opened(base, "--config.eval.holdout=0.5"),
        opened(base, f"--config.eval.path={other}"),
    )
    assert len({share.digest, more.digest, elsewhere.digest}) == 3
    assert len({share.held_out.digest, more.held_out.digest, elsewhere.held_out.digest}) == 3
    moved = tmp_path / "moved"
    moved.symlink_to(photos)
    assert opened(f"--config.data.path={moved}").digest == share.digest


def test_at_most_so_many_faces_of_a_person_are_judged(photos):
    held_out = open_held_out(str(photos), 3)
    _, counts = np.unique(held_out.source.index.identity_of(held_out.records), return_counts=True)
    assert set(counts) == {3}
    assert held_out.identities == 12


def test_names_in_both_folders_are_said(photos, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    (other / "person 00" / "0.png").unlink()
    faces = opened(f"--config.data.path={photos}", f"--config.eval.path={other}")
    assert faces.shared_names == 16
    assert "warning: 16 identities" in faces.describe()


def test_too_few_people_to_hold_out(photos, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(photos / "person 00", few / "a")
    with pytest.raises(InputError, match="too few"):
        opened(f"--config.data.path={few}")
    with pytest.raises(InputError, match="fewer than two identities"):
        open_held_out(str(few), 5)
