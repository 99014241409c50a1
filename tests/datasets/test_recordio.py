"""RecordIO files in the form that InsightFace's tools write."""

import csv
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.datasets.open import open_listed
from facenet_jax.datasets.recordio import RecordIO, read_record
from facenet_jax.errors import InputError
from facenet_jax.images.decode import BadFace, Reason
from preparing import encoded, person, prepared

MAGIC = struct.pack("<I", 0xCED7230A)


def record(data: bytes) -> bytes:
    """One record. Where the data contain the magic number at a multiple of 4, they are cut and the number left out."""
    pieces, start = [], 0
    for at in range(0, len(data) - 3, 4):
        if data[at : at + 4] == MAGIC:
            pieces.append(data[start:at])
            start = at + 4
    pieces.append(data[start:])
    out = b""
    for number, piece in enumerate(pieces):
        kind = 0 if len(pieces) == 1 else 1 if number == 0 else 3 if number == len(pieces) - 1 else 2
        out += MAGIC + struct.pack("<I", kind << 29 | len(piece)) + piece + bytes(-len(piece) % 4)
    return out


def face(label, data, key=0):
    return struct.pack("<IfQQ", 0, label, key, 0) + data


def several(labels, data=b"", key=0):
    return struct.pack("<IfQQ", len(labels), 0, key, 0) + struct.pack(f"<{len(labels)}f", *labels) + data


def write(folder, records, identities=None):
    """Writes {key: bytes} in this order."""
    folder.mkdir(exist_ok=True)
    index, data = "", b""
    for key, content in records.items():
        index += f"{key}\t{len(data)}\n"
        data += record(content)
    (folder / "train.rec").write_bytes(data)
    (folder / "train.idx").write_text(index)
    if identities is not None:
        (folder / "property").write_text(f"{identities},112,112\n")
    return folder


def insightface(folder, people, **options):
    """Writes the images of people ([[bytes, ...], ...]) with identity records."""
    records, ranges, key = {}, [], 1
    for label, faces in enumerate(people):
        ranges.append((key, key + len(faces)))
        for data in faces:
            records[key] = face(label, data, key)
            key += 1
    first = key
    for start, stop in ranges:
        records[key] = several([start, stop], key=key)
        key += 1
    return write(folder, {0: several([first, key]), **records}, len(people), **options)


def people_of(source):
    places = list(source.places(0, int(source.index.offsets[-1])))
    images = [source.reader.read(place) for place in places]
    return [images[start:stop] for start, stop in zip(source.index.offsets[:-1], source.index.offsets[1:], strict=True)]


PEOPLE = [[b"one", b"two"], [b"three"], [MAGIC * 3 + b"four", b"x" * 4 + MAGIC, b""]]


def test_identity_records_group_the_faces(tmp_path):
    source = open_listed(insightface(tmp_path / "set", PEOPLE))
    assert source.kind == "recordio"
    assert source.index.names == ["0", "1", "2"]
    assert people_of(source) == PEOPLE
    assert people_of(open_listed(tmp_path / "set" / "train.rec")) == PEOPLE


def test_an_identity_may_have_no_faces(tmp_path):
    source = open_listed(insightface(tmp_path / "set", [[b"one"], [], [b"two"]]))
    assert source.index.names == ["0", "1", "2"]
    assert people_of(source) == [[b"one"], [], [b"two"]]


def test_without_identity_records_labels_group_the_faces(tmp_path):
    records = {5: face(1, b"three"), 3: face(0, b"one"), 4: face(0, b"two"), 9: several([7, 0.5], b"four")}
    source = RecordIO(write(tmp_path / "set", records) / "train.rec")
    assert source.index.names == ["0", "1", "7"]
    assert people_of(source) == [[b"one", b"two"], [b"three"], [b"four"]]


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"m", MAGIC)), min_size=1, max_size=6))
def test_any_bytes_are_read_back(tmp_path_factory, contents):
    folder = write(tmp_path_factory.mktemp("set"), dict(enumerate(contents)))
    for line, content in zip((folder / "train.idx").read_text().splitlines(), contents, strict=True):
        assert read_record(folder / "train.rec", int(line.split()[1])) == content


def read_all(source):
    """{identity: its images, or the reasons why they cannot be read}."""

    def read(place):
        try:
            return source.reader.read(place)
        except BadFace as bad:
            return bad.reason

    found = [read(place) for place in source.places(0, int(source.index.offsets[-1]))]
    return dict(
        zip(
            source.index.names,
            [
                found[start:stop]
                for start, stop in zip(source.index.offsets[:-1], source.index.offsets[1:], strict=True)
            ],
            strict=True,
        )
    )


@pytest.mark.parametrize("property_too", [True, False])
def test_a_file_cut_off_anywhere_gives_the_records_that_are_left(tmp_path, property_too):
    people = [[b"one", b"two"], [b"three"], [b"four", b"five", b"six"]]
    folder = insightface(tmp_path / "set", people)
    if not property_too:
        (folder / "property").unlink()
    data = (folder / "train.rec").read_bytes()
    where = [int(line.split()[1]) for line in (folder / "train.idx").read_text().splitlines()]
    ends = [*where[1:], len(data)]
    for size in range(len(data) - 1, ends[1] - 1, -1):
        (folder / "train.rec").write_bytes(data[:size])
        found = read_all(open_listed(folder))
        whole = sum(end <= size + 1 for end in ends[1:7])  # a record may end in a zero of padding that may be missing
        flat = [image for images in found.values() for image in images]
        assert len(flat) == 6
        kept = [image for faces in people for image in faces]
        assert [image for image in flat if isinstance(image, bytes)][: whole - 1] == kept[: whole - 1]
        assert all(image is Reason.TRUNCATED for image in flat if not isinstance(image, bytes))
        for number, (name, images) in enumerate(found.items()):
            assert name == str(number)
            assert all(image in people[number] for image in images if isinstance(image, bytes))
    (folder / "train.rec").write_bytes(data[: ends[0] + 12])
    with pytest.raises(InputError, match="has no face where"):
        open_listed(folder)


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ([2], {"0": [b"one", Reason.UNREADABLE], "1": [b"three"], "2": [b"four", b"five"]}),
        ([7], {"0": [b"one", b"two"], "1": [b"three"], "2": [b"four", b"five"]}),
        ([6, 7, 8], {"0": [b"one", b"two"], "1": [b"three"], "2": [b"four", b"five"]}),
        ([3, 7], {"0": [b"one", b"two", Reason.UNREADABLE], "2": [b"four", b"five"]}),
        ([0], {"0": [b"one", b"two"], "1": [b"three"], "2": [b"four", b"five"]}),
    ],
)
def test_lines_missing_from_the_index(tmp_path, lost, expected):
    folder = insightface(tmp_path / "set", [[b"one", b"two"], [b"three"], [b"four", b"five"]])
    lines = (folder / "train.idx").read_text().splitlines()
    (folder / "train.idx").write_text("\n".join(line for line in lines if int(line.split()[0]) not in lost))
    source = open_listed(folder)
    assert read_all(source) == expected
    if lost == [2]:
        assert list(source.places(1, 2)) == ["train.idx#2"]


@pytest.mark.parametrize("broken", range(9))
def test_a_wrong_magic_number_loses_one_record(tmp_path, broken):
    people = [[b"one", b"two"], [b"three"], [b"four", b"five"]]
    folder = insightface(tmp_path / "set", people)
    data = bytearray((folder / "train.rec").read_bytes())
    data[int((folder / "train.idx").read_text().splitlines()[broken].split()[1])] ^= 1
    (folder / "train.rec").write_bytes(data)
    flat = [image for images in read_all(open_listed(folder)).values() for image in images]
    if broken == 0:  # the reader cannot know that this was not a face
        assert flat.pop(0) is Reason.UNREADABLE
    assert len(flat) == 5
    for number, image in enumerate(image for images in people for image in images):
        assert flat[number] == (Reason.UNREADABLE if number + 1 == broken else image)


def test_lost_records_are_listed_and_the_rest_is_prepared(tmp_path):
    faces = [[encoded(person(identity, face)) for face in range(3)] for identity in range(4)]
    folder = insightface(tmp_path / "set", faces)
    data = (folder / "train.rec").read_bytes()
    (folder / "train.rec").write_bytes(data[: int(0.7 * len(data))])
    report = prepared(folder, tmp_path / "out").summary
    with (tmp_path / "out" / "rejects.csv").open(newline="") as file:
        rejects = list(csv.DictReader(file))
    assert report.faces + len(rejects) == 12
    assert report.rejects == {"truncated": len(rejects)}
    assert all(row["file"].startswith("train.rec@") for row in rejects)
    assert 2 <= len(rejects) <= 5


def test_a_damaged_record_is_a_bad_face(tmp_path):
    folder = insightface(tmp_path / "set", PEOPLE)
    source = open_listed(folder)
    data = bytearray((folder / "train.rec").read_bytes())
    at = int(source.place(1).rpartition("@")[2])
    data[at] ^= 1
    (folder / "train.rec").write_bytes(data)
    source = open_listed(folder)
    with pytest.raises(BadFace) as caught:
        source.reader.read(source.place(1))
    assert caught.value.reason is Reason.UNREADABLE
    assert source.reader.read(source.place(2)) == b"three"


def test_files_that_do_not_match_are_refused(tmp_path):
    folder = insightface(tmp_path / "set", PEOPLE)
    (folder / "property").write_text("4,112,112")
    with pytest.raises(InputError, match=r"says 4 identities, and train\.rec has 3"):
        open_listed(folder)
    (folder / "property").write_text("many")
    with pytest.raises(InputError, match="property is damaged"):
        open_listed(folder)
    (folder / "property").unlink()
    lines = (folder / "train.idx").read_text().splitlines()
    for text, match in (
        ("", "is empty or damaged"),
        ("0 none\n", "is empty or damaged"),
        ("0\n1\n", "is empty or damaged"),
        ("\n".join([*lines, lines[1]]), "names a record twice"),
    ):
        (folder / "train.idx").write_text(text)
        with pytest.raises(InputError, match=match):
            open_listed(folder)
    (folder / "train.idx").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        open_listed(folder)


def test_with_more_records_than_a_float_can_count_labels_are_used(tmp_path, monkeypatch):
    from facenet_jax.datasets import recordio

    monkeypatch.setattr(recordio, "_EXACT", 3)
    records = {0: several([99, 99]), 1: face(1, b"three"), 3: face(0, b"one"), 5: face(0, b"two")}
    source = RecordIO(write(tmp_path / "set", records) / "train.rec")
    assert people_of(source) == [[b"one", b"two"], [b"three"]]
    assert np.diff(source.index.offsets).tolist() == [2, 1]
