"""Walking a user's folders to their ends."""

import errno
import os

import pytest

from facenet_jax.datasets.walk import images_below
from facenet_jax.errors import InputError


@pytest.fixture
def album(tmp_path):
    root = tmp_path / "album"
    for name in ("b.JPG", "a.png", "notes.txt", "Z/1.webp", "Z/.hidden.png", "c/d/2.ppm", ".cache/3.png", "e/4.gif"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_own_images_come_before_those_of_folders_in_the_order_of_bytes(album):
    images, ignored = images_below(album)
    assert [str(file.relative_to(album)) for file in images] == ["a.png", "b.JPG", "Z/1.webp", "c/d/2.ppm"]
    assert ignored == 2


def test_links_are_followed_and_none_leads_in_a_circle(album, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "5.png").touch()
    (album / "to").symlink_to(tmp_path / "elsewhere")
    (album / "c" / "back").symlink_to(album)
    (album / "broken.png").symlink_to(album / "gone.png")
    (album / "self.png").symlink_to(album / "self.png")
    images, ignored = images_below(album)
    assert [str(file.relative_to(album)) for file in images][2:] == ["Z/1.webp", "c/d/2.ppm", "to/5.png"]
    assert ignored == 4


def test_a_folder_that_cannot_be_read_is_said(album, monkeypatch):
    scan = os.scandir

    def refuse(folder):
        if str(folder).endswith("d"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"The folder .*/c/d cannot be read \(Permission denied\); check it"):
        images_below(album)
