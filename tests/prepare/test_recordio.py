"""RecordIO files as InsightFace's tools write them."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_jax.data.decode import BadFace, Reason
from facenet_jax.errors import InputError
from facenet_jax.prepare.recordio import RecordIO, read_record
from facenet_jax.prepare.sources import open_source

MAGIC = struct.pack("<I", 0xCED7230A)


def record(data: bytes) -> bytes:
    """One record; where its data hold the magic number at a multiple of 4, it is cut there and the number left out."""
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
    """records: {key: bytes}, in the order in which they are written."""
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
    """people: [[image bytes, ...], ...]"""
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
    places = source.places(0, int(source.offsets[-1]))
    images = [source.reader.read(place) for place in places]
    return [images[start:stop] for start, stop in zip(source.offsets[:-1], source.offsets[1:], strict=True)]


PEOPLE = [[b"one", b"two"], [b"three"], [MAGIC * 3 + b"four", b"x" * 4 + MAGIC, b""]]


def test_identity_records_say_who_is_who(tmp_path):
    source = open_source(insightface(tmp_path / "set", PEOPLE))
    assert source.kind == "recordio"
    assert source.names == ["0", "1", "2"]
    assert people_of(source) == PEOPLE
    assert people_of(open_source(tmp_path / "set" / "train.rec")) == PEOPLE


def test_an_identity_may_have_no_faces(tmp_path):
    source = open_source(insightface(tmp_path / "set", [[b"one"], [], [b"two"]]))
    assert source.names == ["0", "1", "2"]
    assert people_of(source) == [[b"one"], [], [b"two"]]


def test_without_identity_records_the_labels_do(tmp_path):
    records = {5: face(1, b"three"), 3: face(0, b"one"), 4: face(0, b"two"), 9: several([7, 0.5], b"four")}
    source = RecordIO(write(tmp_path / "set", records) / "train.rec")
    assert source.names == ["0", "1", "7"]
    assert people_of(source) == [[b"one", b"two"], [b"three"], [b"four"]]


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"m", MAGIC)), min_size=1, max_size=6))
def test_any_bytes_come_back(tmp_path_factory, contents):
    folder = write(tmp_path_factory.mktemp("set"), dict(enumerate(contents)))
    for line, content in zip((folder / "train.idx").read_text().splitlines(), contents, strict=True):
        assert read_record(folder / "train.rec", int(line.split()[1])) == content


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_file_cut_in_the_middle_is_said(tmp_path, share):
    folder = insightface(tmp_path / "set", PEOPLE)
    data = (folder / "train.rec").read_bytes()
    (folder / "train.rec").write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match="is cut off"):
        open_source(folder)


def test_damage_within_is_a_bad_face(tmp_path):
    folder = insightface(tmp_path / "set", PEOPLE)
    source = open_source(folder)
    data = bytearray((folder / "train.rec").read_bytes())
    at = int(source.places(1, 2)[0].rpartition("@")[2])
    data[at] ^= 1
    (folder / "train.rec").write_bytes(data)
    source = open_source(folder)
    with pytest.raises(BadFace) as caught:
        source.reader.read(source.places(1, 2)[0])
    assert caught.value.reason is Reason.UNREADABLE
    assert source.reader.read(source.places(2, 3)[0]) == b"three"


def test_what_does_not_belong_together_is_said(tmp_path):
    folder = insightface(tmp_path / "set", PEOPLE)
    (folder / "property").write_text("4,112,112")
    with pytest.raises(InputError, match=r"says 4 identities, and train\.rec has 3"):
        open_source(folder)
    (folder / "property").write_text("many")
    with pytest.raises(InputError, match="property is damaged"):
        open_source(folder)
    (folder / "property").unlink()
    lines = (folder / "train.idx").read_text().splitlines()
    for text, match in (
        ("", "is empty or damaged"),
        ("0 none\n", "is empty or damaged"),
        ("0\n1\n", "is empty or damaged"),
        ("\n".join([*lines, lines[1]]), "names a record twice"),
        ("\n".join(lines[:-2]), "does not have"),
        ("\n".join(line for line in lines if not line.startswith("2\t")), "does not name"),
        ("\n".join(["0\t4", *lines[1:]]), "no record at byte 4"),
    ):
        (folder / "train.idx").write_text(text)
        with pytest.raises(InputError, match=match):
            open_source(folder)
    (folder / "train.idx").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        open_source(folder)


def test_more_records_than_a_float_counts_are_read_by_their_labels(tmp_path, monkeypatch):
    from facenet_jax.prepare import recordio

    monkeypatch.setattr(recordio, "_EXACT", 3)
    records = {0: several([99, 99]), 1: face(1, b"three"), 3: face(0, b"one"), 5: face(0, b"two")}
    source = RecordIO(write(tmp_path / "set", records) / "train.rec")
    assert people_of(source) == [[b"one", b"two"], [b"three"]]
    assert np.diff(source.offsets).tolist() == [2, 1]
