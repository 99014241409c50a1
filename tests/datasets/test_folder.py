"""Folders with a folder of images for each identity, and drawn faces, as sources."""

import errno
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from facenet_jax.datasets.drawn import DrawnFaces
from facenet_jax.datasets.folder import FolderSource
from facenet_jax.errors import InputError
from facenet_jax.images.decode import BadFace
from preparing import prepared


def save(path, value=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (6, 6), value).save(path, "png")


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "faces"
    for name, value in [("b.JPG", 10), ("a.png", 20), ("Z.webp", 30), ("c.pgm", 40), ("é.jpeg", 50)]:
        save(root / "Zoë" / name, value)
    save(root / "Abe" / "1.png", 60)
    save(root / "Abe" / ".hidden.png")
    save(root / "Abe" / "deeper" / "2.png")
    (root / "Abe" / "notes.txt").touch()
    (root / "empty").mkdir()
    save(root / ".cache" / "1.png")
    save(root / "loose.png")
    return root


def test_the_listing(root):
    source = FolderSource(root)
    assert source.index.names == ["Abe", "Zoë"]
    assert source.index.offsets.tolist() == [0, 1, 6]
    paths = [
        str(root / name) for name in ["Abe/1.png", "Zoë/Z.webp", "Zoë/a.png", "Zoë/b.JPG", "Zoë/c.pgm", "Zoë/é.jpeg"]
    ]
    assert [source.describe(record) for record in range(6)] == paths
    assert [source.describe(record) for record in range(6)] == [str(root / place) for place in source.places()]
    assert list(source.places(2, 4)) == [source.place(2), source.place(3)] == ["Zoë/a.png", "Zoë/b.JPG"]
    assert source.ignored == 3
    values = [int(source.load(record, (4, 5))[0, 0, 0]) for record in range(6)]
    assert values == [60, 30, 20, 10, 40, 50]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.load(3, (4, 5)), source.load(3, (4, 5)))


def test_the_digest_depends_on_names_and_not_on_the_place(root, tmp_path):
    before = FolderSource(root).digest
    root.rename(tmp_path / "elsewhere")
    assert FolderSource(tmp_path / "elsewhere").digest == before
    (tmp_path / "elsewhere" / "Zoë" / "a.png").rename(tmp_path / "elsewhere" / "Abe" / "a.png")
    assert FolderSource(tmp_path / "elsewhere").digest != before


def test_links_are_followed_and_broken_ones_ignored(root, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "Zoë").symlink_to(root / "Zoë")
    (tmp_path / "links" / "Yve").mkdir()
    (tmp_path / "links" / "Yve" / "1.png").symlink_to(root / "Abe" / "1.png")
    (tmp_path / "links" / "Yve" / "2.png").symlink_to(root / "gone.png")
    source = FolderSource(tmp_path / "links")
    assert source.index.names == ["Yve", "Zoë"]
    assert source.index.counts.tolist() == [1, 5]
    assert source.ignored == 1


def test_a_bad_file_is_a_bad_face(root):
    (root / "Abe" / "1.png").write_bytes(b"")
    with pytest.raises(BadFace):
        FolderSource(root).load(0, (4, 4))


@pytest.fixture
def unreadable(monkeypatch):
    """Names of folders that cannot be listed. Permissions would not do: they do not stop root."""
    names = set()
    scandir = os.scandir

    def refuse(folder):
        if os.path.basename(str(folder)) in names:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    return names


def test_an_identity_that_cannot_be_listed_is_one_bad_face(root, tmp_path, unreadable):
    unreadable.add("Abe")
    source = FolderSource(root)
    assert source.index.names == ["Abe", "Zoë"]
    assert source.index.counts.tolist() == [1, 5]
    assert source.describe(0) == f"{root}/Abe/"
    with pytest.raises(BadFace, match="unreadable"):
        source.load(0, (4, 4))
    unreadable.add("Zoë")
    with pytest.raises(InputError, match=r"None of the 2 folders in .* can be read"):
        FolderSource(root)
    unreadable.add("faces")
    with pytest.raises(InputError, match=r"faces cannot be read \(Permission denied\)"):
        FolderSource(root)


def test_an_unreadable_identity_is_listed_when_the_rest_is_prepared(root, tmp_path, unreadable):
    unreadable.add("Abe")
    report = prepared(root, tmp_path / "out").summary
    assert (report.faces, report.identities, report.empty_identities) == (5, 1, 1)
    assert report.rejects == {"unreadable": 1}
    assert (tmp_path / "out" / "rejects.csv").read_text().splitlines()[1:] == ["Abe/,unreadable"]


def test_mistakes_in_a_folder_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="gone does not exist"):
        FolderSource(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is not a folder"):
        FolderSource(tmp_path / "file")
    (tmp_path / "empty" / "person").mkdir(parents=True)
    with pytest.raises(InputError, match="empty has no folder with images"):
        FolderSource(tmp_path / "empty")
    save(tmp_path / "flat" / "1.png")
    save(tmp_path / "flat" / "2.png")
    with pytest.raises(InputError, match=r"The 2 images in .*flat lie directly in it: .* one folder per identity"):
        FolderSource(tmp_path / "flat")
    save(tmp_path / "singles" / "a" / "1.png")
    save(tmp_path / "singles" / "b" / "1.png")
    with pytest.raises(InputError, match=r"None of the 2 identities in .*singles has two images"):
        FolderSource(tmp_path / "singles")


def test_drawn_faces_are_a_source():
    drawn = DrawnFaces(seed=1, identities=3, faces_per_identity=4, first=10)
    assert list(drawn.index.names) == ["drawn-0000010", "drawn-0000011", "drawn-0000012"]
    assert drawn.index.counts.tolist() == [4, 4, 4]
    assert drawn.describe(5) == "drawn-0000011/0001"
    image = drawn.load(5, (20, 16))
    assert image.shape == (20, 16, 3)
    np.testing.assert_array_equal(image, DrawnFaces(1, 1, 4, first=11).load(1, (20, 16)))
    assert drawn.digest == pickle.loads(pickle.dumps(drawn)).digest
    assert drawn.digest != DrawnFaces(2, 3, 4, first=10).digest
    with pytest.raises(InputError, match="at least one identity"):
        DrawnFaces(1, 0, 4)


def test_a_file_that_comes_piece_by_piece_is_read_whole(root, monkeypatch):
    source = FolderSource(root)
    expected = (root / "Abe" / "1.png").read_bytes()
    read = os.read
    monkeypatch.setattr(os, "read", lambda file, most: read(file, min(most, 7)))
    assert source.read(0) == expected
