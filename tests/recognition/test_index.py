"""The index finds exactly the nearest people, is complete on disk at any moment, and damage is refused."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluating import unit
from facenet_jax.errors import InputError
from facenet_jax.evaluation.compact import calibrate, pack
from facenet_jax.recognition import index_files
from facenet_jax.recognition.index import PeopleIndex, Vectors
from facenet_jax.recognition.index_files import MANIFEST, held, load_index, save_index
from facenet_jax.recognition.thresholds import Threshold

pytest.importorskip("faiss")
THRESHOLD = Threshold(0.01, 1.1, 0.0099, "identify", "people", "none", 1083, 180)


def drawn(n, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(n, 12)))


def enrolled(points, people, compact=False):
    vectors = Vectors(points.shape[1], calibrate(points) if compact else None)
    index = PeopleIndex("sface", None, "sface", "digest", "none", vectors, thresholds=[THRESHOLD])
    names = [f"p{person}" for person in people]
    files = [f"{name}/{number}.jpg" for number, name in enumerate(names)]
    index.add(points, names, files, [number.to_bytes(16, "big") for number in range(len(points))])
    return index


def nearest_by_hand(points, people, query, k):
    """(person, distance) of the k nearest people, each by the nearest face, in float64."""
    distances = np.sum((points.astype(np.float64) - query) ** 2, axis=1)
    best = sorted((min(distances[people == person]), person) for person in set(people.tolist()))
    return [(f"p{person}", distance) for distance, person in best[:k]]


@given(st.integers(1, 80), st.integers(1, 9), st.integers(1, 4), st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_the_nearest_people_are_those_of_a_loop(n, most, queries, k, compact, seed):
    # Half of the faces are of one person, whom the queries resemble: many of these are nearer than any other person.
    rng = np.random.default_rng(seed)
    people = np.sort(rng.integers(0, most, n) * rng.integers(0, 2, n))
    centres = drawn(most, seed=seed)
    points, asked = (
        c + 0.1 * drawn(len(c), seed=seed + 1) for c in (centres[people], np.repeat(centres[:1], queries, axis=0))
    )
    index = enrolled(points, people, compact)
    if compact:  # compared as int8 holds them
        step = index.vectors.step
        points, asked_as = pack(points, step).points, pack(asked, step).points
    else:
        asked_as = asked
    for query, found in zip(asked_as, index.nearest(asked, k), strict=True):
        expected = nearest_by_hand(points, people, query, k)
        np.testing.assert_allclose([near.distance for near in found], [d for _, d in expected], atol=1e-5)
        assert [near.person for near in found] == [person for person, _ in expected]
        assert all(near.file.startswith(f"{near.person}/") for near in found)
    assert index.nearest(asked[:0], k) == []


@given(st.data(), st.booleans())
def test_removed_people_leave_no_trace(data, compact):
    points = drawn(40)
    people = np.array(data.draw(st.lists(st.integers(0, 6), min_size=40, max_size=40)))
    gone = data.draw(st.sets(st.sampled_from(sorted(set(people.tolist()))), min_size=1))
    index = enrolled(points, people, compact)
    stay = ~np.isin(people, list(gone))
    assert index.remove([f"p{person}" for person in gone]) == np.sum(~stay)
    assert (len(index.vectors), len(index.files), len(index.contents)) == (stay.sum(),) * 3
    assert {index.people[person] for person in index.person} == set(index.people)
    if stay.any():
        for row in np.flatnonzero(stay)[:5]:
            (near,) = index.nearest(points[row : row + 1], 1)[0]
            assert (near.person, near.file) == (f"p{people[row]}", f"p{people[row]}/{row}.jpg")
    with pytest.raises(InputError, match="not enrolled under this name"):
        index.remove([f"p{gone.pop()}"])


@pytest.mark.parametrize("compact", [False, True])
def test_it_is_read_back_and_can_be_added_to(tmp_path, compact):
    points, people = drawn(30), np.arange(30) // 3
    index = enrolled(points[:20], people[:20], compact)
    save_index(index, tmp_path)
    index = load_index(tmp_path)
    assert index.thresholds == [THRESHOLD]
    index.add(points[20:], [f"p{p}" for p in people[20:]], ["a\udcff/b.jpg"] * 10, [os.urandom(16)] * 10)
    save_index(index, tmp_path)
    again = load_index(tmp_path)
    assert again.known() == index.known()
    assert again.files == index.files
    assert (again.vectors.step, again.vectors.clipped) == (index.vectors.step, index.vectors.clipped)
    assert again.nearest(points, 4) == index.nearest(points, 4)
    assert len(list(tmp_path.iterdir())) == 3
    bytes_each = (tmp_path / next(iter(json.loads((tmp_path / MANIFEST).read_text())["files"]))).stat().st_size / 30
    assert 12 * (1 if compact else 4) <= bytes_each < 12 * (1 if compact else 4) + 20


def test_clipped_coordinates_are_counted():
    points = drawn(10)
    index = enrolled(points * np.float32(0.5), np.arange(10), compact=True)
    assert index.vectors.clipped == 0
    index.vectors.add(points)
    assert index.vectors.clipped == pack(points, index.vectors.step).clipped > 0


def test_an_interrupted_save_leaves_the_old_index(tmp_path, monkeypatch):
    old, new = enrolled(drawn(5), np.arange(5)), enrolled(drawn(6), np.arange(6))
    save_index(old, tmp_path)

    monkeypatch.setattr(index_files, "write_whole", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_index(new, tmp_path)
    assert load_index(tmp_path).people == old.people
    monkeypatch.undo()
    (tmp_path / ".vectors.1.tmp").write_bytes(b"of a process that was killed")
    save_index(new, tmp_path)
    assert load_index(tmp_path).people == new.people
    assert len(list(tmp_path.iterdir())) == 3


def test_an_index_that_changes_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    save_index(enrolled(drawn(5), np.arange(5)), tmp_path)
    sha256, seen = index_files._sha256, []

    def enrolled_meanwhile(path):
        if not seen:
            seen.append(path)
            monkeypatch.setattr(index_files, "_sha256", sha256)
            save_index(enrolled(drawn(7), np.arange(7)), tmp_path)
        return sha256(path)

    monkeypatch.setattr(index_files, "_sha256", enrolled_meanwhile)
    assert len(load_index(tmp_path).people) == 7
    assert seen


def test_damage_and_tampering_are_refused(tmp_path):
    def saved():
        save_index(enrolled(drawn(5), np.arange(5)), tmp_path)
        return tmp_path / MANIFEST

    for kind in ("vectors", "faces"):
        saved()
        (file,) = tmp_path.glob(f"{kind}-*")
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(InputError, match=f"tampered with .the SHA-256 of {kind}-.* is another"):
            load_index(tmp_path)
        file.unlink()
        with pytest.raises(InputError, match=f"lacks {kind}-"):
            load_index(tmp_path)
    manifest = saved()
    text = manifest.read_text()
    for old, new, sentence in (
        ('"distance": 1.1', '"distance": 3.9', "tampered with .its own digest"),
        ('"version": 1', '"version": 3', "this program reads facenet-jax index 1 and 2"),
        ('"format"', '"formal"', "damaged"),
        (text, "[]", "damaged"),
        (text, text[:100], "damaged"),
    ):
        assert old in text
        manifest.write_text(text.replace(old, new, 1))
        with pytest.raises(InputError, match=sentence):
            load_index(tmp_path)
    manifest.unlink()
    with pytest.raises(InputError, match="is not an index"):
        load_index(tmp_path)


def test_files_of_another_kind_are_refused_though_their_digest_fits(tmp_path):
    """Anybody can write matching digests, but nothing is ever unpickled."""
    from facenet_jax.recognition.index_files import _sha256, _signed

    save_index(enrolled(drawn(5), np.arange(5)), tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    for kind, sentence in (("vectors", "not a faiss index"), ("faces", "allow_pickle=False")):
        (file,) = tmp_path.glob(f"{kind}-*")
        whole = file.read_bytes()
        with file.open("wb") as stream:
            np.savez(stream, people=np.array([{}]), person=0, files=0, contents=0)
        manifest["files"][file.name] = _sha256(file)
        (tmp_path / MANIFEST).write_text(json.dumps(_signed(manifest)))
        with pytest.raises(InputError, match=sentence):
            load_index(tmp_path)
        file.write_bytes(whole)
        manifest["files"][file.name] = _sha256(file)


def test_one_process_changes_it_at_a_time(tmp_path):
    with held(tmp_path / "index"), pytest.raises(InputError, match="another process changes"), held(tmp_path / "index"):
        pass
    (tmp_path / "other" / "thing").mkdir(parents=True)
    with pytest.raises(InputError, match="is not empty"), held(tmp_path / "other"):
        pass


@pytest.mark.parametrize(
    ("rate", "trials", "measured", "faces", "expected"),
    [
        (0.01, 1000, 100, 100, 0.01),
        (0.01, 1000, 100, 200, 0.0199),
        (0.01, 1000, 100, 50, 0.005013),
        (0.0, 100, 10, 10, 0.01),  # nobody of a hundred was accepted: this shows no lower rate
        (0.001, 10_000, None, 30, 0.03),
        (0.001, 10_000, None, 5000, 1),
        (0.1, 0, None, 1, 0.01),  # a hold-out: the rate that was asked for
        (1.0, 50, 10, 10, 1),
    ],
)
def test_a_rate_is_worked_out_for_the_faces_enrolled(rate, trials, measured, faces, expected):
    threshold = Threshold(0.01, 1.1, rate, "photos", "people", "none", trials, measured)
    assert threshold.expected(faces) == pytest.approx(expected, rel=1e-3)
