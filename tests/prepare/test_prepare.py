"""`prepare` makes a dataset of a folder of photographs."""

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from facenet_jax.cli import main
from facenet_jax.datasets.prepared import PreparedSource, shard_name
from facenet_jax.errors import InputError
from facenet_jax.images.decode import MAX_SIDE
from facenet_jax.images.digests import content_digest, look_digest
from facenet_jax.prepare import workers
from facenet_jax.prepare.merge import merge
from facenet_jax.prepare.shards import ShardWriter
from facenet_jax.prepare.summary import format_summary, read_summary
from preparing import contents, crowd, encoded, person, prepared


def rows(file):
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return list(csv.reader(stream))[1:]


def test_thumbnails_stay_as_they_are_in_order(tmp_path, photos, small_shards):
    outcome = prepared(photos, tmp_path / "out")
    source = PreparedSource(tmp_path / "out")
    files = sorted(str(file.relative_to(photos)) for file in photos.rglob("*") if file.is_file())
    assert list(source.files) == files
    assert list(source.index.names) == sorted(folder.name for folder in photos.iterdir())
    assert source.index.counts.tolist() == [5] * 12 + [1] * 4
    assert source.card.shard_records == [8] * 8
    for record, file in enumerate(files):
        data = (photos / file).read_bytes()
        assert source.read(record) == data
        assert source.contents[record].tobytes() == content_digest(data)
        identity = int(source.index.identity_of(np.array(record)))
        assert source.index.names[identity] == file.partition("/")[0]
        looked = look_digest(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        np.testing.assert_array_equal(source.looks[record], looked)
    summary = outcome.summary
    assert (summary.faces, summary.identities, summary.rejects) == (64, 16, {})
    assert summary.histogram == [[1, 1, 4], [2, 3, 0], [4, 7, 12]]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["faces"] == 64
    assert "64 faces of 16 identities" in format_summary(summary, tmp_path / "out")
    report = tmp_path / "out" / "report.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"histogram": [[1, 1, 4], [2, 3]]}))
    with pytest.raises(InputError, match=r"report\.json cannot be read \(a bin of its histogram"):
        read_summary(tmp_path / "out")


@pytest.mark.parametrize("crop", ["tight", "similarity", "centre"])
def test_faces_are_cut_and_exceptions_reported(tmp_path, crop):
    pytest.importorskip("cv2")
    source = tmp_path / "photos"
    (source / "a").mkdir(parents=True)
    photo = np.full((240, 320, 3), 128, np.uint8)
    (source / "a" / "none.png").write_bytes(encoded(photo))
    photo[60:180, 20:140] = person(0, 0, 120)
    (source / "a" / "one.png").write_bytes(encoded(photo))
    photo[20:220, 120:320] = person(1, 0, 200)
    (source / "a" / "two.png").write_bytes(encoded(photo))
    outcome = prepared(source, tmp_path / "out", crop=crop, size=64)
    summary, dataset = outcome.summary, PreparedSource(tmp_path / "out")
    for record in range(3):
        image = Image.open(io.BytesIO(dataset.read(record)))
        assert (image.format, image.size, image.mode) == ("JPEG", (64, 64), "RGB")
    found = crop != "centre"
    assert (summary.fallbacks, summary.several_faces) == ((1, 1) if found else (0, 0))
    assert rows(tmp_path / "out" / "fallbacks.csv") == ([["a/none.png", "a"]] if found else [])
    assert (dataset.card.detector is not None) == found
    if found:  # the only face, and the larger one of two
        flat = np.ptp(dataset.load(0, (64, 64)).astype(int))
        assert flat < 10
        assert dataset.load(1, (64, 64)).std() > 20
        assert "no face found   1" in format_summary(summary, tmp_path / "out")


def bad_files(root):
    """Writes files; {name: (bytes, the reason why it is bad, or None)}."""
    wide = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    good = Image.fromarray(person(0, 0, 20))
    jpeg, png = encoded(good, "jpeg"), encoded(good)
    frames = [good, Image.new("RGB", (20, 20), (0, 0, 255))]

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (MAX_SIDE + 1).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    huge = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    files = {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "truncated.png": (png[: len(png) // 2], "truncated"),
        "mislabelled.png": (jpeg, None),
        "a text.jpg": (b"this is no picture", "not an image of a known format"),
        "cmyk.jpg": (encoded(good.convert("CMYK"), "jpeg"), None),
        "16 bit.png": (encoded(Image.fromarray(wide)), None),
        "animated.png": (encoded(good, save_all=True, append_images=frames[1:]), None),
        "animated.webp": (encoded(good, "webp", save_all=True, append_images=frames[1:]), None),
        "zero.png": (b"", "empty file"),
        "huge.png": (huge, "too large"),
        "bomb.png": (encoded(Image.new("1", (15_000, 15_000))), "too large"),
        "-rf.jpg": (jpeg, None),
        "line\nbreak.jpg": (jpeg, None),
        "grüße 日本.pgm": (encoded(good.convert("L"), "ppm"), None),
        os.fsdecode(b"not\xffutf8.jpg"): (b"no", "not an image of a known format"),
    }
    root.mkdir(parents=True)
    for name, (data, _) in files.items():
        (root / name).write_bytes(data)
    return files


@pytest.mark.parametrize("crop", ["none", "centre"])
def test_bad_files_are_counted_listed_and_skipped(tmp_path, crop):
    files = bad_files(tmp_path / "photos" / "-Ann\nB. é")
    (tmp_path / "photos" / "nobody").mkdir()
    (tmp_path / "photos" / "nobody" / "1.png").write_bytes(b"")
    outcome = prepared(tmp_path / "photos", tmp_path / "out", crop=crop, size=32)
    bad = {f"-Ann\nB. é/{name}": reason for name, (_, reason) in files.items() if reason} | {
        "nobody/1.png": "empty file"
    }
    assert dict(rows(tmp_path / "out" / "rejects.csv")) == bad
    summary = outcome.summary
    assert sum(summary.rejects.values()) == len(bad)
    assert outcome.faces == len(files) + 1
    assert summary.rejects["too large"] == 2
    assert (summary.identities, summary.empty_identities) == (1, 1)
    dataset = PreparedSource(tmp_path / "out")
    good = [f"-Ann\nB. é/{name}" for name, (_, reason) in files.items() if not reason]
    assert sorted(dataset.files) == sorted(good)
    for record, file in enumerate(dataset.files):
        assert dataset.load(record, (16, 16)).shape == (16, 16, 3)
        data = files[file.partition("/")[2]][0]
        if crop == "none" and not data.startswith((b"RIFF", b"P5")):
            assert dataset.read(record) == data
        elif crop == "none":
            assert dataset.read(record).startswith(b"\x89PNG")
    assert dataset.index.counts.tolist() == [len(good), 0]
    # Three files hold the same JPEG.
    assert (summary.duplicates_within, summary.duplicates_across) == (2, 0)


def test_duplicates_are_listed(tmp_path):
    source = crowd(tmp_path / "photos", 3, 2)
    shutil.copy(source / "000" / "0.png", source / "000" / "2.png")
    shutil.copy(source / "000" / "0.png", source / "002" / "0.png")
    summary = prepared(source, tmp_path / "out").summary
    assert (summary.duplicates_within, summary.duplicates_across) == (1, 1)
    assert rows(tmp_path / "out" / "duplicates.csv") == [
        ["000/2.png", "000", "000/0.png", "000", "within"],
        ["002/0.png", "002", "000/0.png", "000", "across"],
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_listed_faces_are_excluded_and_counted(tmp_path, workers):
    source = crowd(tmp_path / "photos", 3, 2)
    (tmp_path / "list.txt").write_text("000/1.png\n002\n")
    options = {"exclude": tmp_path / "list.txt", "workers": workers}
    summary = prepared(source, tmp_path / "out", **options).summary
    assert list(PreparedSource(tmp_path / "out").files) == ["000/0.png", "001/0.png", "001/1.png"]
    assert summary.rejects == {"left out by --exclude": 3}
    assert [row[0] for row in rows(tmp_path / "out" / "rejects.csv")] == ["000/1.png", "002/0.png", "002/1.png"]
    (tmp_path / "list.txt").write_text("000/1.png\n")
    with pytest.raises(InputError, match="with another --exclude"):
        prepared(source, tmp_path / "out", **options)
    with pytest.raises(InputError, match=r"--exclude=.*cannot be read"):
        prepared(source, tmp_path / "other", exclude=tmp_path / "none.txt")


def test_lines_of_a_list_that_match_nothing_are_reported(tmp_path, capsys):
    source = crowd(tmp_path / "photos", 3, 2)
    (tmp_path / "list.txt").write_text("\ufeff002\n002/0.png\n001/1.png\n1/1.png\nd\nc\nb\n")
    command = ["prepare", str(source), str(tmp_path / "out"), "--crop=none", "--workers=0"]
    assert main([*command, f"--exclude={tmp_path / 'list.txt'}"]) == 0
    said = capsys.readouterr().err
    assert f"4 of the names in {tmp_path / 'list.txt'} match no identity or face, such as 1/1.png, b, c\n" in said
    assert list(PreparedSource(tmp_path / "out").files) == ["000/0.png", "000/1.png", "001/0.png"]
    (tmp_path / "list.txt").write_text("002\n001/1.png\n")
    command[2] = str(tmp_path / "other")
    assert main([*command, f"--exclude={tmp_path / 'list.txt'}"]) == 0
    assert "match no" not in capsys.readouterr().err


def test_a_stopped_command_finishes_its_shard_and_resumes(tmp_path, small_shards, monkeypatch, capsys):
    source = crowd(tmp_path / "photos", 7, 5)
    prepared(source, tmp_path / "whole")
    write, asked = ShardWriter.write, []

    def write_and_ask(*arguments):
        if not asked:
            asked.append(os.kill(os.getpid(), 2))
        write(*arguments)

    monkeypatch.setattr(ShardWriter, "write", write_and_ask)
    out = tmp_path / "out"
    command = ["prepare", str(source), str(out), "--crop", "none", "--workers", "0"]
    assert main(command) == 130
    assert "stopped by SIGINT; the same command resumes" in capsys.readouterr().err
    assert len(list((out / "parts").iterdir())) == 1
    assert main(command) == 0
    seen = capsys.readouterr()
    assert "8 of 35 faces were prepared before" in seen.err
    assert "35 faces of 7 identities" in seen.out
    assert f"picture         {out / 'identities.png'}" in seen.out
    assert (out / "identities.png").read_bytes().startswith(b"\x89PNG")
    assert contents(out) == contents(tmp_path / "whole")
    assert main(command) == 0  # nothing to do: the report again
    assert capsys.readouterr().out == seen.out


def test_a_full_disk_loses_nothing(tmp_path, small_shards, monkeypatch, capsys):
    source = crowd(tmp_path / "photos", 7, 5)
    prepared(source, tmp_path / "whole")
    out = tmp_path / "out"
    command = ["prepare", str(source), str(out), "--crop", "none", "--workers", "0"]
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 5:  # the job, a shard and its records, the second shard, its records
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "what was saved before is kept" in said
    assert not list(out.rglob("*.tmp"))
    assert main(command) == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_a_file_that_cannot_grow_is_reported_and_loses_nothing(tmp_path):
    # A limit on the size of files stands in for a full disk: no special rights are needed.
    source = crowd(tmp_path / "photos", 4, 40, side=64)
    command = [sys.executable, "-m", "facenet_jax.cli", "prepare", str(source), str(tmp_path / "out"), "--crop", "none"]
    limited = ["bash", "-c", 'ulimit -f 1024; exec "$@"', "bash", *command, "--workers", "1"]  # in KiB
    result = subprocess.run(limited, capture_output=True, text=True)
    assert result.returncode == 1, result.stderr
    assert "File too large" in result.stderr
    assert "what was saved before is kept" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert main([*command[3:], "--workers", "0"]) == 0
    assert PreparedSource(tmp_path / "out").card.records == 160


def test_a_damaged_part_is_made_again(tmp_path, small_shards):
    source = crowd(tmp_path / "photos", 7, 5)
    prepared(source, tmp_path / "whole")
    for damage in ("parts/00002.npz", shard_name(2, 5)):
        out = tmp_path / damage.replace("/", " ")
        for share in (0, 1):
            prepared(source, out, share=(share, 2))
        (out / damage).write_bytes((out / damage).read_bytes()[:100])
        with pytest.raises(InputError, match="again to repair it"):
            merge(out)
        prepared(source, out)
        assert contents(out) == contents(tmp_path / "whole")


def test_a_stray_file_in_the_source_changes_nothing(tmp_path, small_shards):
    source = crowd(tmp_path / "photos", 7, 5)
    prepared(source, tmp_path / "whole")
    for out in ("one", "shares"):
        prepared(source, tmp_path / out, share=(0, 2))
    (source / "000" / "Thumbs.db").touch()
    prepared(source, tmp_path / "whole")
    prepared(source, tmp_path / "one")
    prepared(source, tmp_path / "shares", share=(1, 2))
    merge(tmp_path / "shares")
    for out in ("one", "shares"):
        assert contents(tmp_path / out) == contents(tmp_path / "whole")


def test_a_different_job_in_the_same_folder_is_refused(tmp_path):
    source = crowd(tmp_path / "photos", 2, 2)
    prepared(source, tmp_path / "shares", share=(0, 2))
    prepared(source, tmp_path / "whole")
    for out in (tmp_path / "shares", tmp_path / "whole"):
        with pytest.raises(InputError, match="was begun with crop=none, now centre; size=0, now 32"):
            prepared(source, out, crop="centre", size=32)
    shutil.copy(source / "000" / "0.png", source / "001" / "5.png")
    for out in (tmp_path / "shares", tmp_path / "whole"):
        with pytest.raises(InputError, match=r"from other faces \(4, not 5"):
            prepared(source, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"is not empty \(it has thesis.txt\)"):
        prepared(source, tmp_path / "mine")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"crop": "loose"}, "no crop 'loose'"),
        ({"size": 8}, "--size=8"),
        ({"workers": -1}, "--workers=-1"),
        ({"workers": 10**30}, "--workers=10{30}: choose 0"),
        ({"share": (2, 2)}, "--shard=2/2"),
    ],
)
def test_invalid_options_are_refused(tmp_path, options, match):
    with pytest.raises(InputError, match=match):
        prepared(crowd(tmp_path / "photos", 1, 1), tmp_path / "out", **options)


def test_nothing_is_written_into_the_source(tmp_path):
    source = crowd(tmp_path / "photos", 1, 1)
    for out in (source, source / "out"):
        with pytest.raises(InputError, match="lies in"):
            prepared(source, out)


def test_no_usable_face_is_refused(tmp_path):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"None of the 1 faces can be decoded: see .*rejects\.csv \(1 empty file\)"):
        prepared(tmp_path / "photos", tmp_path / "out")
    (tmp_path / "list.csv").write_text("path,identity\nphotos/gone.png,a\n")
    with pytest.raises(InputError, match=r"\(1 no such file; a manifest's paths start at its folder\)"):
        prepared(tmp_path / "list.csv", tmp_path / "listed")


@pytest.mark.parametrize(
    ("code", "started", "sentence"),
    [
        (-9, 1, "A worker process was killed (SIGKILL), perhaps because memory ran out (fewer --workers need less)"),
        (-7, 1, "SIGBUS, as where memory is full (fewer --workers need less): /dev/shm"),
        (-11, 1, "A worker process ended by SIGSEGV"),
        (1, 1, "A worker process ended with the exit code 1"),
        (1, 0, "The worker processes could not start (one ended with the exit code 1; what it printed says why)"),
    ],
)
def test_a_worker_that_dies_is_reported_with_its_cause(tmp_path, monkeypatch, capsys, code, started, sentence):
    source = crowd(tmp_path / "photos", 2, 2)

    class Dying:
        def __init__(self, *_, initargs, **__):
            initargs[0].value = started
            codes = (-15, code)  # the executor ends the other with SIGTERM
            self._processes = {n: SimpleNamespace(exitcode=one, join=lambda _: None) for n, one in enumerate(codes)}

        def submit(self, *_):
            raise workers.BrokenProcessPool

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Dying)
    assert main(["prepare", str(source), str(tmp_path / "out"), "--crop", "none", "--workers", "1"]) == 1
    assert sentence in capsys.readouterr().err


def test_people_without_a_face_are_named(tmp_path, capsys):
    source = crowd(tmp_path / "photos", 2, 2)
    for name in ("dana/1.png", "eve/1.cr2", "eve/.DS_Store"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).touch()
    assert main(["prepare", str(source), str(tmp_path / "out"), "--crop", "none", "--workers", "0"]) == 0
    said = capsys.readouterr().err
    assert "there are no images of 1 person: eve" in said
    assert "without a face are 1 person: dana" in said
    assert "1 .cr2" in said
    assert "1 left behind by systems" in said


def test_a_full_dev_shm_is_reported_with_what_to_lower(tmp_path, monkeypatch, capsys):
    source = crowd(tmp_path / "photos", 2, 2)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(workers, "ProcessPoolExecutor", full)
    assert main(["prepare", str(source), str(tmp_path / "out"), "--crop", "none", "--workers", "1"]) == 1
    said = capsys.readouterr().err
    assert "No space left on device (what processes share finds no room there" in said
    assert "lower --workers): /dev/shm" in said
