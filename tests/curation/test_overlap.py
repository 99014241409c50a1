"""The people and images that two datasets share."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facenet_jax.cli import main
from facenet_jax.config import load_config
from facenet_jax.curation import overlap
from facenet_jax.curation.overlap import alike, find_overlap, format_overlap, open_compared, same_contents
from facenet_jax.images.digests import LOOK_DISTANCE, is_blank
from facenet_jax.training.training_faces import open_faces
from preparing import encoded, person, prepared


@pytest.mark.parametrize("limits", [(2**20, 2**22), (7, 5)])
def test_alike_misses_none_and_repeats_none(limits, monkeypatch):
    monkeypatch.setattr(overlap, "_BLOCK", limits[0])
    monkeypatch.setattr(overlap, "_CANDIDATES", limits[1])
    rng = np.random.default_rng(0)
    b = rng.integers(0, 2**16, (40, 16)).astype(np.uint16)
    b[:3] = 0  # blank
    bits = np.unpackbits(b.view(np.uint8), axis=1)
    near = []
    for flips in range(25):
        copy = bits.copy()
        for row in copy:
            row[rng.choice(256, flips, replace=False)] ^= 1
        near.append(np.packbits(copy, axis=1).view(np.uint16))
    a = np.concatenate([*near, rng.integers(0, 2**16, (50, 16)).astype(np.uint16)])
    found = alike(a, b)
    distance = np.bitwise_count(a[:, None] ^ b[None]).sum(-1)
    expected = np.argwhere((distance <= LOOK_DISTANCE) & ~is_blank(a)[:, None] & ~is_blank(b)[None])
    assert len(expected) >= 37 * (LOOK_DISTANCE + 1)
    np.testing.assert_array_equal(np.stack([found.a, found.b], 1), expected)
    np.testing.assert_array_equal(found.distance, distance[found.a, found.b])


@given(st.lists(st.integers(0, 8), max_size=20), st.lists(st.integers(0, 8), max_size=20))
def test_same_contents_are_those_of_a_loop(a, b):
    def digests(values):
        out = np.zeros((len(values), 16), np.uint8)
        out[:, 0] = np.array(values) // 3  # the first eight bytes may be the same where the others are not
        out[:, 12] = values
        return out

    found = same_contents(digests(a), digests(b))
    expected = [(i, j) for i, left in enumerate(a) for j, right in enumerate(b) if left == right]
    assert list(zip(found.a.tolist(), found.b.tolist(), strict=True)) == expected


def folder(root, faces):
    """faces: {"identity/file": bytes}"""
    for place, data in faces.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(data)
    return root


@pytest.fixture
def two(tmp_path):
    shared, recoded = person(1, 0, 96), Image.fromarray(person(2, 0, 96))
    a = {f"person {i}/{j}.png": encoded(person(i + 10, j, 96)) for i in range(4) for j in range(2)}
    b = {f"other {i}/{j}.png": encoded(person(i + 50, j, 96)) for i in range(2) for j in range(2)}
    a |= {"person 0/shared.png": encoded(shared), "person 1/photo.png": encoded(recoded)}
    b |= {"other 0/copy.png": encoded(shared), "person 3/photo.jpg": encoded(recoded, "jpeg", quality=80)}
    b |= {"person 3/broken.jpg": b"no"}
    return folder(tmp_path / "a", a), folder(tmp_path / "b", b)


@pytest.mark.parametrize("kinds", ["folders", "prepared", "mixed", "swapped"])
def test_names_bytes_and_looks(two, tmp_path, kinds, capsys):
    a, b = two
    if kinds != "folders":
        prepared(a, tmp_path / "prepared a")
        prepared(b, tmp_path / "prepared b")
        a = tmp_path / "prepared a"
        b = tmp_path / "prepared b" if kinds == "prepared" else b
    if kinds == "swapped":
        a, b = b, a
    found = find_overlap(open_compared(a), open_compared(b)).to_json()
    same = {"a": "person 0/shared.png", "b": "other 0/copy.png", "identity_a": "person 0", "identity_b": "other 0"}
    near = {"a": "person 1/photo.png", "b": "person 3/photo.jpg", "identity_a": "person 1", "identity_b": "person 3"}
    if kinds == "swapped":
        same, near = (
            {
                key.translate({97: 98, 98: 97}) if len(key) == 1 else key[:-1] + "ba"[key[-1] == "b"]: value
                for key, value in pair.items()
            }
            for pair in (same, near)
        )
    assert found["names"] == ["person 3"]
    assert found["same_bytes"] == [same]
    assert [{**pair, "distance": None} for pair in found["look_the_same"]] == [{**near, "distance": None}]
    capsys.readouterr()
    assert main(["overlap", str(a), str(b), f"--out={tmp_path / 'overlap.json'}"]) == 0
    said = capsys.readouterr().out
    assert "1 by name" in said
    assert "1 more pairs within 15 of 256 bits" in said
    assert json.loads((tmp_path / "overlap.json").read_text()) == found
    assert main(["overlap", str(a), str(tmp_path / "gone")]) == 2


def test_unreadable_images_are_listed(two, tmp_path, capsys):
    a, b = two
    for number in range(12):
        (b / "person 3" / f"empty {number:02d}.png").touch()
    found = find_overlap(open_compared(a), open_compared(b))
    assert found.to_json()["a"]["unreadable"] == []
    bad = [{"file": "person 3/broken.jpg", "reason": "not an image of a known format"}]
    bad += [{"file": f"person 3/empty {number:02d}.png", "reason": "empty file"} for number in range(12)]
    assert found.to_json()["b"]["unreadable"] == bad
    said = format_overlap(found).splitlines()
    assert f"{'unreadable':<16}{0:>12}{13:>12}" in said
    assert "unreadable in B: 'person 3/empty 00.png (empty file)'" in said
    assert "unreadable in B: 3 more" in said
    nothing = folder(tmp_path / "c", {"x/1.png": b"", "y/1.png": b"no"})
    assert main(["overlap", str(a), str(nothing)]) == 2
    assert f"None of the 2 images of {nothing} can be decoded" in capsys.readouterr().err


def test_different_crops_are_reported(two, tmp_path):
    prepared(two[0], tmp_path / "cut", crop="centre", size=32)
    said = format_overlap(find_overlap(open_compared(tmp_path / "cut"), open_compared(two[1])))
    assert "A has crop centre and B none" in said


def test_training_warns_of_evaluated_faces_that_are_trained_on(photos, two, tmp_path):
    evaluated = tmp_path / "evaluated"
    shutil.copytree(two[1], evaluated)
    (evaluated / "person 3" / "broken.jpg").unlink()
    shutil.copy(two[1] / "other 0" / "0.png", evaluated / "person 3" / "0.png")
    prepared(two[0], tmp_path / "train")
    prepared(evaluated, tmp_path / "eval")

    def opened(train, held_out=""):
        return open_faces(load_config("quickstart", [f"--config.data.path={train}", f"--config.eval.path={held_out}"]))

    said = opened(tmp_path / "train", tmp_path / "eval").describe()
    assert "1 identities of config.eval.path have names" in said
    assert "2 evaluated faces are pictures that are trained on" in said
    # Faces that are left out of training do not count.
    (tmp_path / "list.txt").write_text("person 0/shared.png\n")
    given = [
        f"data.path={tmp_path / 'train'}",
        f"eval.path={tmp_path / 'eval'}",
        f"data.exclude={tmp_path / 'list.txt'}",
    ]
    rest = open_faces(load_config("quickstart", [f"--config.{one}" for one in given]))
    assert "1 evaluated faces are pictures that are trained on" in rest.describe()
    # In a mixture too, in whichever of its datasets they are.
    for mixture in ("(('{0}', 1), ('{1}', 1))", "(('{1}', 1), ('{0}', 1))"):
        paths = mixture.format(photos, tmp_path / "train")
        mixed = open_faces(
            load_config("quickstart", [f"--config.data.mixture={paths}", f"--config.eval.path={tmp_path / 'eval'}"])
        )
        assert "2 evaluated faces are pictures that are trained on" in mixed.describe()
    # Also if a share of one dataset is held out, and a picture has two names.
    twice = tmp_path / "twice"
    shutil.copytree(photos, twice)
    clean = opened(twice).describe()
    assert "warning" not in clean
    prepared(twice, tmp_path / "clean")
    assert "warning" not in opened(tmp_path / "clean").describe()
    for person_folder in sorted(twice.iterdir())[:12]:
        shutil.copy(photos / "person 00" / "0.png", person_folder / "same.png")
    prepared(twice, tmp_path / "dirty")
    assert "evaluated faces are pictures that are trained on" in opened(tmp_path / "dirty").describe()
