"""Opening faces of every form: folders, prepared datasets, manifests, drawn faces and mixtures."""

import csv
import errno
import os

import numpy as np
import pytest
from ml_collections import ConfigDict

from facenet_jax.datasets.drawn import DrawnFaces
from facenet_jax.datasets.mixture import MixedSource
from facenet_jax.datasets.open import crop_of, open_dataset, open_listed, open_training
from facenet_jax.errors import InputError
from facenet_jax.images.decode import BadFace, Reason
from preparing import crowd, prepared

AWKWARD = ["a b", "-rf", "line\nbreak", "Zoë", "日本", 'comma,quote"', os.fsdecode(b"not\xffutf8"), "tab\t"]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "faces"
    for identity in AWKWARD:
        (root / identity).mkdir(parents=True)
        for file in ("-1.png", "2 \n.jpg"):
            (root / identity / file).write_bytes(os.fsencode(identity + file))
    return root


def rows(source):
    names = [
        name
        for name, count in zip(source.index.names, np.diff(source.index.offsets), strict=True)
        for _ in range(count)
    ]
    places = list(source.places(0, int(source.index.offsets[-1])))
    return [(name, place, source.reader.read(place)) for name, place in zip(names, places, strict=True)]


def write_csv(path, table, columns=("path", "identity")):
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([columns, *table])
    return path


def test_a_folder_gives_every_file_whatever_its_name(folder):
    source = open_listed(folder)
    assert source.kind == "folder"
    assert sorted(source.index.names) == sorted(AWKWARD)
    found = rows(source)
    assert len(found) == 2 * len(AWKWARD)
    for name, place, data in found:
        assert place.startswith(name + "/")
        assert os.fsdecode(data) == place.replace("/", "")


def test_a_manifest_of_a_folder_gives_the_same(folder):
    table = [(place, name) for name, place, _ in rows(open_listed(folder))]
    manifest = open_listed(write_csv(folder / "list.csv", table[::-1]))
    assert manifest.kind == "manifest"
    assert sorted(rows(manifest)) == sorted(rows(open_listed(folder)))
    assert manifest.index.names == open_listed(folder).index.names
    again = open_listed(write_csv(folder / "list.csv", table[::-1]))
    other = open_listed(write_csv(folder / "list.csv", table))
    assert manifest.digest == again.digest != other.digest


def test_faces_of_an_identity_keep_the_order_of_the_manifest(tmp_path):
    rng = np.random.default_rng(0)
    table = [(f"{number}.png", f"person {person}") for number, person in enumerate(rng.integers(0, 5, 500))]
    source = open_listed(write_csv(tmp_path / "list.csv", table))
    places = list(source.places(0, 500))
    for person, (start, stop) in enumerate(zip(source.index.offsets[:-1], source.index.offsets[1:], strict=True)):
        assert places[start:stop] == [place for place, identity in table if identity == f"person {person}"]


def test_parquet_gives_what_csv_gives(tmp_path, folder):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = [(place, name) for name, place, _ in rows(open_listed(folder)) if "\udcff" not in name]
    by_csv = open_listed(write_csv(folder / "list.csv", table))
    places, names = zip(*table, strict=True)
    pq.write_table(pa.table({"path": places, "identity": names, "more": range(len(names))}), folder / "list.parquet")
    by_parquet = open_listed(folder / "list.parquet")
    assert rows(by_parquet) == rows(by_csv)
    assert by_parquet.digest == by_csv.digest
    pq.write_table(pa.table({"path": ["a/1.png"], "identity": [5]}), folder / "numbers.parquet")
    assert open_listed(folder / "numbers.parquet").index.names == ["5"]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"broken\.parquet is not a Parquet file"):
        open_listed(tmp_path / "broken.parquet")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no column path and no column identity"),
        ("path,person\na,b\n", "no column identity"),
        ("path,identity\n", "has no rows"),
        ("path,identity\na/1.png,a\nb/1.png\n", r"Row 2 of .* has no identity"),
        ("path,identity\n,a\n", r"Row 1 of .* has no path"),
    ],
)
def test_mistakes_in_a_manifest_are_refused_in_one_sentence(tmp_path, text, match):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InputError, match=match):
        open_listed(tmp_path / "list.csv")


@pytest.mark.parametrize("heads", ["path, identity", "path;identity", "Path,Identity", "path\tidentity"])
def test_a_manifest_with_wrong_columns_is_refused_with_their_names(tmp_path, heads):
    (tmp_path / "list.csv").write_text(f"{heads}\na.png,a\n")
    with pytest.raises(InputError, match=r"\(it has '.*'\): its first row names the columns path and"):
        open_listed(tmp_path / "list.csv")


def test_a_manifest_may_name_missing_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "there.png").write_bytes(b"data")
    table = [(str(tmp_path / "there.png"), "a"), *((place, "a") for place in ("gone.png", "pipe", "loop", ".", "a\0b"))]
    source = open_listed(write_csv(tmp_path / "list.csv", table))
    places = list(source.places(0, 6))
    assert source.reader.read(places[0]) == b"data"
    for place in places[1:]:
        with pytest.raises(BadFace) as caught:
            source.reader.read(place)
        assert caught.value.reason is (Reason.MISSING if place == "gone.png" else Reason.UNREADABLE)


def test_circular_links_are_skipped(folder):
    (folder / "a b" / "3.png").symlink_to(folder / "a b" / "3.png")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "Zoë" / "up").symlink_to(folder)
    source = open_listed(folder)
    assert int(source.index.offsets[-1]) == 2 * len(AWKWARD)
    assert source.ignored == 3


def test_paths_that_are_no_source_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_listed(tmp_path / "gone")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="neither a folder nor a manifest"):
        open_listed(tmp_path / "notes.txt")


@pytest.mark.parametrize("really", [False, True])
def test_a_folder_that_may_not_be_read_is_one_bad_face(folder, monkeypatch, really):
    if really and os.geteuid() == 0:
        pytest.skip("root may read anything")
    scan = os.scandir

    def refuse(path):
        if os.fspath(path) == str(folder / "a b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    if really:
        (folder / "a b").chmod(0)
    else:
        monkeypatch.setattr(os, "scandir", refuse)
    source = open_listed(folder)
    number = source.index.names.index("a b")
    start, stop = source.index.offsets[number : number + 2].tolist()
    assert list(source.places(start, stop)) == ["a b/"]
    with pytest.raises(BadFace, match="unreadable"):
        source.reader.read("a b/")
    assert len(list(source.places(0, int(source.index.offsets[-1])))) == 2 * len(AWKWARD) - 1


def test_the_form_is_recognised_by_the_path(folder, tmp_path):
    prepared(crowd(tmp_path / "crowd", 3, 2), tmp_path / "prepared")
    held, crowded = open_dataset(tmp_path / "prepared"), open_dataset(tmp_path / "crowd")
    assert list(held.places()) == list(crowded.places())
    for record in range(6):
        assert held.read(record) == crowded.read(record)
        assert held.place(record) == crowded.place(record)
    manifest = write_csv(tmp_path / "list.csv", [("crowd/000/0.png", "a")])
    listed = open_dataset(manifest, listed=True)
    assert (listed.read(0), listed.load(0, (8, 8)).shape) == (crowded.read(0), (8, 8, 3))
    assert listed.describe(0) == crowded.describe(0)
    with pytest.raises(InputError, match="is not a folder"):
        open_dataset(manifest)
    (tmp_path / "prepared" / "card.json").rename(tmp_path / "prepared" / "prepare.json")
    with pytest.raises(InputError, match="is not finished"):
        open_dataset(tmp_path / "prepared", listed=True)


def test_training_data_is_one_source(folder):
    drawn = ConfigDict({"identities": 3, "faces_per_identity": 2, "seed": 5})
    assert open_training(["drawn"], drawn) == DrawnFaces(5, 3, 2)
    mixed = open_training([str(folder), "drawn"], drawn)
    assert isinstance(mixed, MixedSource)
    assert mixed.borders == [0, len(AWKWARD), len(AWKWARD) + 3]
    assert mixed.ignored == 0


def test_replacing_an_image_changes_the_digest_of_the_files(folder):
    source = open_dataset(folder)
    before = source.files_digest(), source.digest
    (folder / "a b" / "-1.png").write_bytes(b"another, longer")
    assert open_dataset(folder).digest == before[1]
    assert source.files_digest() != before[0]


def test_only_prepared_faces_record_their_crop(folder, tmp_path):
    prepared(crowd(tmp_path / "crowd", 2, 2), tmp_path / "prepared", crop="centre", size=16)
    found = [crop_of(path) for path in (tmp_path / "prepared", folder, tmp_path / "gone")]
    assert found == ["centre", "none", "none"]
