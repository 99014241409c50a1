"""The commands enroll and identify: the files they write, what they print, and what they refuse."""

import csv
import json
import shutil
import sys

import pytest

from facenet_jax.datasets import walk
from facenet_jax.datasets.source import FileReader
from facenet_jax.images.decode import BadFace, Reason
from networks import distance

# Thresholds measured with so few faces name too many strangers; most tests here are about something else.
MANY = ("--accept-rate", 1)


class TestGallery:
    @pytest.fixture
    def gallery(self, photos, tmp_path):
        """The first image of each of eight people."""
        for person in range(8):
            (tmp_path / "gallery" / f"person {person:02d}").mkdir(parents=True)
            shutil.copy(photos / f"person {person:02d}" / "0.png", tmp_path / "gallery" / f"person {person:02d}")
        return tmp_path / "gallery"

    def test_people_without_a_usable_photograph_are_named(self, gallery, network, tmp_path, said):
        pytest.importorskip("faiss")
        for name in ("dana/1.CR2", "eve/1.HEIC", "person 00/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg"):
            (gallery / name).parent.mkdir(parents=True)
            (gallery / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        code, text, _ = said("enroll", gallery, tmp_path / "index", "--embedder", network, "--crop=none")
        assert code == 0
        assert "enrolled        8 faces of 8 people" in text
        assert "no usable face  2 people: eve, dana" in text
        assert "1 .cr2" in text
        assert "1 left behind by systems" in text

    @pytest.mark.parametrize("compact", [False, True])
    def test_people_are_enrolled_found_removed(self, gallery, photos, network, evaluations, tmp_path, said, compact):
        pytest.importorskip("faiss")
        index = tmp_path / "index"
        code, text, _ = said(
            "enroll", gallery, index, "--embedder", network, "--crop=none", *(["--compact"] * compact),
            "--evaluation", evaluations / "identify.json",
        )  # fmt: skip
        assert code == 0
        assert "enrolled        8 faces of 8 people" in text
        result = json.loads((evaluations / "identify.json").read_text())["embedders"][0]["result"]
        limit = result["open_set"][-1]["threshold"]
        assert f"threshold       squared distance {limit:.4f}: of 34 faces of strangers" in text

        asked = [photos / "person 03" / "0.png", photos / "person 11" / "0.png"]
        code, text, _ = said("identify", *asked, index, "-k", 2, "-o", tmp_path / "found.json", *MANY)
        assert code == 0
        found = json.loads((tmp_path / "found.json").read_text())
        known, stranger = found["faces"]
        assert (known["person"], known["box"]) == ("person 03", None)
        assert known["neighbours"][0]["distance"] < 1e-3
        assert known["neighbours"][0]["file"] == "person 03/0.png"
        assert stranger["person"] == (
            None if stranger["neighbours"][0]["distance"] > limit else stranger["neighbours"][0]["person"]
        )
        assert found["threshold"]["distance"] == limit
        nearest = min(distance(network, asked[1], file) for file in gallery.glob("*/*"))
        assert stranger["neighbours"][0]["distance"] == pytest.approx(nearest, abs=0.05 if compact else 1e-4)

        # More photographs, one again under another name, two that are not photographs, and a new person.
        for name in ("1.jpg", "twice.jpg"):
            shutil.copy(photos / "person 03" / "1.jpg", gallery / "person 03" / name)
        shutil.copy(photos / "person 03" / "0.png", gallery / "person 03" / "again.png")
        (gallery / "person 04" / "bad.jpg").write_bytes(b"")
        shutil.copytree(photos / "person 11", gallery / "person 11")
        (gallery / "nobody").mkdir()
        (gallery / "nobody" / "1.jpg").write_bytes(b"no image")
        code, text, _ = said("enroll", gallery, index)
        assert code == 0
        assert "enrolled        6 faces of 2 people" in text
        assert "before          10 photographs" in text
        assert "2 photographs (rejected.txt): nobody/1.jpg (not an image of a known format), person 04/bad.jpg" in text
        assert "no usable face  1 people: nobody" in text
        assert (index / "rejected.txt").read_text().count("\n") == 2
        (gallery / "nobody" / "2.jpg").write_bytes(b"")
        code, text, _ = said("enroll", gallery, index)
        assert "passed over     2 photographs as before (rejected.txt)\n" in text
        assert "passed over     1 photographs (rejected.txt): nobody/2.jpg (empty file)\n" in text
        assert (index / "rejected.txt").read_text().count("\n") == 3
        code, text, _ = said("enroll", gallery, index)
        assert text.count("passed over") == 1
        assert "passed over     3 photographs as before" in text
        said("identify", *asked, index, "-o", tmp_path / "found.csv", *MANY)
        rows = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
        assert [row["person"] for row in rows if row["rank"] == "1"] == ["person 03", "person 11"]
        assert len(rows) == 6

        code, text, _ = said("enroll", index, "--remove", "person 11", "person 03")
        assert code == 0
        assert "removed         7 faces of 2 people" in text
        assert "7 faces of 7 people" in text
        said("identify", photos / "person 11", index, "-k", 99, "-o", tmp_path / "found.json", *MANY)
        found = json.loads((tmp_path / "found.json").read_text())
        assert [len(face["neighbours"]) for face in found["faces"]] == [7] * 5
        assert "person 11" not in {near["person"] for face in found["faces"] for near in face["neighbours"]}

    def test_a_threshold_of_pairs_says_what_it_means_for_many(self, gallery, network, evaluations, tmp_path, said):
        pytest.importorskip("faiss")
        index = tmp_path / "index"
        said("enroll", gallery, index, "--embedder", network, "--crop=none")
        code, _, sentence = said("identify", gallery, index)
        assert code == 2
        assert "has none: give --evaluation, or make one, on other people: facenet-jax evaluate identify" in sentence
        asked = ["identify", gallery, index, "--evaluation", evaluations / "photos.json", "--far=0.1"]
        code, _, sentence = said(*asked)
        assert code == 2
        assert "% of strangers would be taken for somebody among 8 enrolled faces, and more than 10% is" in sentence
        code, text, _ = said(*asked, "--accept-rate=0.8")
        assert code == 0
        assert "warning: with 8" in text
        assert "with 8 faces enrolled, up to 79." in text
        assert said("enroll", index, "--evaluation", evaluations / "photos.json")[0] == 0
        assert said("identify", gallery, index)[0] == 0
        assert "--accept-rate=0: give a rate" in said("identify", gallery, index, "--accept-rate=0")[2]

    def test_a_rate_measured_with_few_people_is_worked_out_for_many(self, photos, network, evaluations, tmp_path, said):
        pytest.importorskip("faiss")
        index, file = tmp_path / "index", evaluations / "identify.json"
        result = json.loads(file.read_text())["embedders"][0]["result"]
        code, text, _ = said("enroll", photos, index, "--embedder", network, "--crop=none", "--evaluation", file)
        assert code == 0
        rate = 1 - (1 - result["open_set"][0]["reached"]) ** (64 / result["open_enrolled"])
        means = f"with 64 faces enrolled, about {100 * rate:.3g}% of strangers may be named (it was measured with "
        assert f"warning: {means}{result['open_enrolled']})" in text
        code, _, sentence = said("identify", photos, index)
        assert code == 2
        assert f"about {100 * rate:.3g}% of strangers would be taken for somebody among 64 enrolled faces" in sentence
        code, text, _ = said("identify", photos, index, *MANY)
        assert code == 0
        assert means in text

    def test_the_index_follows_its_gallery(self, gallery, photos, network, evaluations, tmp_path, said):
        pytest.importorskip("faiss")
        index = tmp_path / "index"
        shutil.copy(photos / "person 01" / "1.jpg", gallery / "person 01")
        made = ["enroll", gallery, index, "--embedder", network, "--crop=none"]
        assert said(*made, "--evaluation", evaluations / "identify.json")[0] == 0
        # Moved to another person, replaced, deleted with its person, and renamed.
        (gallery / "person 01" / "1.jpg").rename(gallery / "person 00" / "moved.jpg")
        shutil.copy(photos / "person 02" / "2.png", gallery / "person 02" / "0.png")
        shutil.rmtree(gallery / "person 03")
        (gallery / "person 04" / "0.png").rename(gallery / "person 04" / "renamed.png")
        code, text, _ = said("enroll", gallery, index)
        assert code == 0
        outdated = (
            "3 faces enrolled before: person 01/1.jpg (moved to person 00/moved.jpg), person 02/0.png (replaced), "
            "person 03/0.png (missing)"
        )
        assert f"outdated        {outdated}" in text
        assert "11 faces of 8 people" in text
        code, text, _ = said("identify", gallery / "person 00" / "moved.jpg", index, "-k", 1, *MANY)
        assert "tie: " in text
        code, text, _ = said("enroll", gallery, index, "--sync")
        assert code == 0
        assert f"removed         {outdated}" in text
        assert "8 faces of 7 people" in text
        said("identify", gallery, index, "-o", tmp_path / "found.json", *MANY)
        faces = json.loads((tmp_path / "found.json").read_text())["faces"]
        assert {face["file"] for face in faces} == {face["neighbours"][0]["file"] for face in faces}
        assert all(face["person"] == face["file"].split("/")[0] and not face["tied"] for face in faces)
        assert "outdated" not in said("enroll", gallery, index)[1]

        code, text, _ = said("enroll", index, "--remove", "person 00/moved.jpg", "person 05/0.png")
        assert code == 0
        assert "removed         2 faces of 2 names" in text
        assert "6 faces of 6 people" in text
        before = {file.name for file in index.iterdir()}
        code, _, sentence = said("enroll", gallery, index, "--remove", "person 06")
        assert code == 2
        assert "still holds person 06, who would be enrolled again" in sentence
        assert before <= {file.name for file in index.iterdir()}
        assert "give the gallery too" in said("enroll", index, "--sync")[2]

    def test_photographs_that_cannot_be_read_stay_enrolled(self, gallery, network, tmp_path, said, monkeypatch):
        pytest.importorskip("faiss")
        index = tmp_path / "index"
        made = ["enroll", gallery, index, "--embedder", network, "--crop=none"]
        assert said(*made)[0] == 0
        read, scan = FileReader.read, walk.os.scandir

        def no_leave(folder):
            if str(folder).endswith("person 02"):
                raise PermissionError(13, "Permission denied")
            return scan(folder)

        def unreadable(self, place):
            if place.startswith("person 01"):
                raise BadFace(Reason.FORBIDDEN)
            return read(self, place)

        monkeypatch.setattr(walk.os, "scandir", no_leave)
        monkeypatch.setattr(FileReader, "read", unreadable)
        shutil.rmtree(gallery / "person 03")
        code, text, _ = said("enroll", gallery, index, "--sync")
        assert code == 0
        assert "removed         1 faces enrolled before: person 03/0.png (missing)" in text
        assert "person 01/0.png (permission denied)" in text
        assert "7 faces of 7 people" in text

    def test_a_gallery_that_holds_nothing_of_the_index_does_not_empty_it(
        self, gallery, photos, network, tmp_path, said
    ):
        pytest.importorskip("faiss")
        index = tmp_path / "index"
        assert said("enroll", gallery, index, "--embedder", network, "--crop=none")[0] == 0
        (tmp_path / "other" / "somebody").mkdir(parents=True)
        shutil.copy(photos / "person 09" / "0.png", tmp_path / "other" / "somebody")
        code, _, sentence = said("enroll", tmp_path / "other", index, "--sync")
        assert code == 2
        assert "--sync would remove every face" in sentence
        assert json.loads((index / "index.json").read_text())["faces"] == 8

    def test_an_index_of_another_embedder_is_refused(self, gallery, network, tmp_path, said):
        pytest.importorskip("faiss")
        index = tmp_path / "index"
        assert said("enroll", gallery, index, "--embedder", network, "--crop=none")[0] == 0
        for command in (["identify", gallery, index], ["enroll", gallery, index]):
            code, _, sentence = said(*command, "--embedder", f"{network},scale=0.5")
            assert code == 2
            assert "is another embedder (or has changed since" in sentence
            assert "was enrolled with --crop none, not centre" in said(*command, "--crop=centre")[2]
        assert "stores float32; leave --compact out" in said("enroll", gallery, index, "--compact")[2]
        assert "not enrolled under this name" in said("enroll", index, "--remove", "nobody")[2]

    def test_mistakes_are_refused_in_one_sentence(self, gallery, network, tmp_path, said):
        pytest.importorskip("faiss")
        index = tmp_path / "index"

        def refused(*arguments):
            code, _, sentence = said(*arguments)
            assert code == 2
            return sentence

        assert "is a new index: give the network with --embedder" in refused("enroll", gallery, index)
        assert "Give a gallery to enrol" in refused("enroll", index)
        assert "is not an index" in refused("identify", gallery, index)
        assert "is not an index" in refused("enroll", index, "--remove", "a")
        given = ["--embedder", network, "--crop=none"]
        (tmp_path / "empty").mkdir()
        assert "has no folder with images" in refused("enroll", tmp_path / "empty", index, *given)
        (tmp_path / "bad" / "a").mkdir(parents=True)
        (tmp_path / "bad" / "a" / "1.jpg").write_bytes(b"")
        sentence = refused("enroll", tmp_path / "bad", index, *given)
        assert "None of the 1 photographs in" in sentence
        assert "a/1.jpg: empty file" in sentence
        assert "is not empty" in refused("enroll", gallery, gallery, *given)
        assert said("enroll", gallery, index, *given)[0] == 0
        assert "ask for at least one person" in refused("identify", gallery, index, "-k", 0)
        assert "does not exist; make it" in refused("identify", gallery, index, "-o", tmp_path / "none" / "x.csv")
        assert "ends in .json or .csv" in refused("identify", gallery, index, "-o", tmp_path / "x.txt")
        assert said("enroll", index, "--remove", *(folder.name for folder in gallery.iterdir()))[0] == 0
        assert "has nobody enrolled" in refused("identify", gallery, index)


def test_missing_faiss_is_named(photos, network, tmp_path, said, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    code, _, sentence = said("enroll", photos, tmp_path / "index", "--embedder", network, "--crop=none")
    assert code == 2
    assert "make setup EXTRAS=index" in sentence
