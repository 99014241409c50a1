"""Walking through a user's folders."""

import errno
import os
import unicodedata
from pathlib import Path

import pytest

from facenet_jax.datasets.folder import FolderSource
from facenet_jax.datasets.walk import LEFT_BEHIND, TOO_HIGH, images_below, in_words, stored_path
from facenet_jax.errors import InputError


@pytest.fixture
def album(tmp_path):
    root = tmp_path / "album"
    for name in ("b.JPG", "a.png", "notes.txt", "Z/1.webp", "Z/.hidden.png", "c/d/2.ppm", ".cache/3.png", "e/4.gif"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_images_come_before_folders_sorted_by_bytes(album):
    images, ignored = images_below(album)
    assert [str(file.relative_to(album)) for file in images] == ["a.png", "b.JPG", "Z/1.webp", "c/d/2.ppm", "e/4.gif"]
    assert ignored == {".txt": 1, LEFT_BEHIND: 2}


def test_links_are_followed_but_not_in_circles(album, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "5.png").touch()
    (album / "to").symlink_to(tmp_path / "elsewhere")
    (album / "c" / "back").symlink_to(album)
    (album / "broken.png").symlink_to(album / "gone.png")
    (album / "self.png").symlink_to(album / "self.png")
    images, ignored = images_below(album)
    assert [str(file.relative_to(album)) for file in images][2:] == ["Z/1.webp", "c/d/2.ppm", "e/4.gif", "to/5.png"]
    assert ignored == {".txt": 1, LEFT_BEHIND: 2, "links that lead nowhere": 2}


def test_an_unreadable_folder_is_refused_in_one_sentence(album, monkeypatch):
    scan = os.scandir

    def refuse(folder):
        if str(folder).endswith("d"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"The folder .*/c/d cannot be read \(Permission denied\); check it"):
        images_below(album)


def test_folders_of_systems_are_counted_and_are_not_people(tmp_path):
    for name in (
        "ada/1.png",
        "ada/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
        "ada/Thumbs.db",
        "ada/._1.png",
        "ada/notes.TXT",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    left = ("@eaDir", "__MACOSX", ".Trash-1000", "#recycle", "lost+found", ".thumbnails", ".git", "$RECYCLE.BIN")
    for name in left:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").touch()
    (tmp_path / "desktop.ini").touch()
    (tmp_path / "dana").mkdir()
    (tmp_path / "dana" / "1.CR2").touch()
    (tmp_path / "loose.png").touch()
    source = FolderSource(tmp_path, singles=True)
    assert source.index.names == ["ada"]
    assert source.without_images == ["dana"]
    assert source.passed_over == {LEFT_BEHIND: 3 + len(left) + 1, ".txt": 1, ".cr2": 1, TOO_HIGH: 1}
    assert source.ignored == 3
    assert in_words(source.passed_over, most=2).startswith(f"12 {LEFT_BEHIND}, 1 ")
    assert in_words(source.passed_over, most=2).endswith(", 2 others")
    images, passed_over = images_below(tmp_path)
    assert [str(image.relative_to(tmp_path)) for image in images] == ["loose.png", "ada/1.png"]
    assert passed_over == {LEFT_BEHIND: 12, ".txt": 1, ".cr2": 1}


def test_a_folder_without_images_is_refused_with_its_contents(tmp_path):
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "1.cr2").touch()
    with pytest.raises(InputError, match=r"no folder with images in it \(passed over: 1 \.cr2\)"):
        FolderSource(tmp_path)


@pytest.mark.parametrize(("stored", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_path_is_found_in_either_unicode_form(tmp_path, stored, asked):
    folder, file = (unicodedata.normalize(stored, name) for name in ("José", "é.png"))
    (tmp_path / folder).mkdir()
    (tmp_path / folder / file).touch()
    assert stored_path(tmp_path, unicodedata.normalize(asked, "José/é.png")) == str(tmp_path / folder / file)
    mixed = f"{unicodedata.normalize(asked, 'José')}/{file}"
    assert stored_path(tmp_path, mixed) == str(tmp_path / folder / file)
    assert not Path(stored_path(tmp_path, "José/ö.png")).exists()


@pytest.mark.parametrize(
    "name", ["~snapshot", "LOST.DIR", "@__thumb", "_gsdata_", "RECYCLED", "FOUND.001", "@Transcode"]
)
def test_folders_of_other_systems_are_not_people(tmp_path, name):
    for folder in ("ada", name):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").touch()
    assert list(FolderSource(tmp_path, singles=True).index.names) == ["ada"]
