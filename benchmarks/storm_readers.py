"""Lists every reader of files, with a small undamaged input for each and assertions about what it reads."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.config import default_config
from facenet_jax.config.keys import flatten
from facenet_jax.datasets.drawn import render
from facenet_jax.datasets.exclude import find_named, read_list
from facenet_jax.datasets.open import open_dataset, open_listed
from facenet_jax.datasets.source import ListedFaces
from facenet_jax.embedders import open_network
from facenet_jax.embedders.engine import EmbeddedFaces
from facenet_jax.embedders.table import FileOfEmbeddings
from facenet_jax.errors import InputError
from facenet_jax.evaluation.protocols.lfw import read_lfw_pairs
from facenet_jax.evaluation.protocols.pairs import read_bin
from facenet_jax.evaluation.protocols.ytf import read_ytf_splits
from facenet_jax.export.card import figures_of
from facenet_jax.images.decode import BadFace, decode, decode_whole
from facenet_jax.images.digests import content_digest
from facenet_jax.prepare.job import Job, read_job
from facenet_jax.prepare.prepare import prepare
from facenet_jax.prepare.shards import read_records
from facenet_jax.prepare.summary import format_summary, read_summary
from facenet_jax.recognition.embeddings_file import write_table
from facenet_jax.recognition.index import PeopleIndex, Vectors
from facenet_jax.recognition.index_files import load_index, save_index
from facenet_jax.recognition.thresholds import read_thresholds
from facenet_jax.report.build import build
from facenet_jax.report.collect import collect
from facenet_jax.runtime.checkpoints import Checkpoints
from facenet_jax.runtime.files import write_arrays
from facenet_jax.training.metrics import read_metrics
from facenet_jax.training.run_directory import RunDirectory, finished_report

_PEOPLE, _FACES, _SIDE = 4, 3, 24
_DIGEST = "d" * 32


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
      name: its name.
      make: writes an undamaged one into an empty folder.
      read: reads it as a command does and returns what was read; its assertions say what is legitimate.
      harmed: patterns of the files to damage.
      checked: whether the format has a checksum, so that anything read must equal the undamaged input.
      weight: how often it is damaged, compared with others.
      slow: whether reading is so slow that the tests leave most of it to `make storm`.
      needs: the package needed to make and read it, or "".
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    harmed: tuple[str, ...]
    checked: bool = False
    weight: int = 4
    slow: bool = False
    needs: str = ""


def _face(identity: int, exemplar: int) -> NDArray[np.uint8]:
    return np.asarray(render(7, identity, exemplar, (_SIDE, _SIDE)))


def _encoded(pixels: NDArray[np.uint8], form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def _image(name: str, form: str, checked: bool = False, grey: bool = False, exif: bool = False) -> Kind:
    def make(folder: Path) -> None:
        pixels = _face(0, 0)
        options: dict[str, Any] = {}
        if exif:
            tags = Image.Exif()
            tags[0x0112] = 6
            options["exif"] = tags
        (folder / "face").write_bytes(_encoded(pixels[..., 0] if grey else pixels, form, **options))

    def read(folder: Path) -> Any:
        small, whole = decode(folder / "face", (16, 12)), decode_whole(folder / "face")
        assert (small.shape, small.dtype) == ((16, 12, 3), np.uint8)
        assert (whole.ndim, whole.shape[2], whole.dtype) == (3, 3, np.uint8)
        return whole

    return Kind(name, make, read, ("face",), checked, weight=6)


def _folder(folder: Path) -> Path:
    for identity in range(_PEOPLE):
        (folder / f"p{identity}").mkdir(parents=True)
        for exemplar in range(_FACES):
            (folder / f"p{identity}" / f"{exemplar}.png").write_bytes(_encoded(_face(identity, exemplar), "png"))
    return folder


def _listed(source: ListedFaces) -> Any:
    index = source.index
    assert (np.diff(index.offsets) >= 0).all()
    assert len(index.offsets) == len(index.names) + 1
    faces: list[Any] = []
    for place in source.places(0, 40):
        try:
            faces.append((place, decode(source.reader.read(place), (8, 8))))
        except BadFace as bad:
            faces.append((place, bad.reason.words))
    return list(index.names), index.offsets, faces


def _make_csv(folder: Path) -> None:
    _folder(folder / "faces")
    rows = [f"faces/p{i}/{j}.png,Pérson {i}" for i in range(_PEOPLE) for j in range(_FACES)]
    (folder / "list.csv").write_text("\n".join(["path,identity", *rows, ""]), encoding="utf-8")


def _make_parquet(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    _folder(folder / "faces")
    pairs = [(f"faces/p{i}/{j}.png", f"Pérson {i}") for i in range(_PEOPLE) for j in range(_FACES)]
    columns = {name: [pair[at] for pair in pairs] for at, name in enumerate(("path", "identity"))}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "list.parquet")


def _make_recordio(folder: Path) -> None:
    def record(data: bytes) -> bytes:
        return struct.pack("<II", 0xCED7230A, len(data)) + data + bytes(-len(data) % 4)

    def several(*labels: float) -> bytes:
        return struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0, 0, 0, *labels)

    faces = [
        struct.pack("<IfQQ", 0, i, 0, 0) + _encoded(_face(i, j), "jpeg") for i in range(_PEOPLE) for j in range(_FACES)
    ]
    people = [several(1 + i * _FACES, 1 + (i + 1) * _FACES) for i in range(_PEOPLE)]
    first = 1 + len(faces)
    index, data = "", b""
    for key, content in enumerate([several(first, first + len(people)), *faces, *people]):
        index += f"{key}\t{len(data)}\n"
        data += record(content)
    (folder / "train.rec").write_bytes(data)
    (folder / "train.idx").write_text(index)
    (folder / "property").write_text(f"{_PEOPLE},112,112\n")


def _make_lfw(folder: Path) -> None:
    same = [f"Person_{i}\t1\t2" for i in range(3)]
    other = [f"Person_{i}\t1\tPerson_{i + 1}\t3" for i in range(3)]
    (folder / "pairs.txt").write_text("\n".join(["2\t3", *same, *other, *same, *other, ""]))


def _make_ytf(folder: Path) -> None:
    rows = [f"{split}, A_{split}/{n}, B/{n}, 0.5, {n % 2}" for split in (1, 2) for n in range(4)]
    (folder / "splits.txt").write_text("\n".join(["split number, first name, second name, rectsize, is same", *rows]))


def _pairs(listed: Any) -> Any:
    assert listed.pairs.shape == (len(listed.same), 2) == (len(listed.fold), 2)
    assert set(listed.pairs.ravel().tolist()) <= set(range(len(listed.keys)))
    return listed.keys, listed.pairs, listed.same, listed.fold, listed.people


def _make_bin(folder: Path) -> None:
    images = [_encoded(_face(i % 3, i), "jpeg") for i in range(8)]
    (folder / "lfw.bin").write_bytes(pickle.dumps((images, [True, False, True, False]), protocol=4))


def _read_bin(folder: Path) -> Any:
    listed, images = read_bin(folder / "lfw.bin")
    assert all(type(image) is bytes for image in images)
    return _pairs(listed), images


def _points(rows: int, size: int = 8) -> NDArray[np.float32]:
    points = np.random.default_rng(0).standard_normal((rows, size))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def _embedded() -> EmbeddedFaces:
    n = _PEOPLE * _FACES
    return EmbeddedFaces(
        tuple(f"p{i // _FACES}/{i % _FACES}.png" for i in range(n)),
        np.arange(n),
        np.full((n, 4), np.nan, np.float32),
        np.full(n, np.nan, np.float32),
        np.ones(n, bool),
        np.zeros(n, bool),
        _points(n),
        (),
    )


def _embeddings(name: str, suffix: str, needs: str = "") -> Kind:
    def make(folder: Path) -> None:
        about: Any = SimpleNamespace(name="a network", digest=_DIGEST, flipped=False)
        write_table(_embedded(), folder / f"faces{suffix}", about, "none", False)

    def read(folder: Path) -> Any:
        found = FileOfEmbeddings(folder / f"faces{suffix}")
        return found.names, found.points

    return Kind(name, make, read, (f"faces{suffix}",), checked=True, weight=8, needs=needs)


def _make_onnx(folder: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.random.default_rng(0).standard_normal((192, 8)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"], axis=1), helper.make_node("MatMul", ["f", "w"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "net.onnx").write_bytes(onnx.ModelProto.SerializeToString(model))


def _make_onnx_and_card(folder: Path) -> None:
    _make_onnx(folder)
    digest = hashlib.sha256((folder / "net.onnx").read_bytes()).hexdigest()
    card = {"format": "facenet-jax export", "version": 1, "sha256": digest, "network": "tiny"}
    (folder / "net.onnx.json").write_text(json.dumps(card, indent=1))


def _read_onnx(folder: Path) -> Any:
    embedder = open_network(f"onnx:{folder / 'net.onnx'}")
    assert max(embedder.size) < 4096, "a file of a few kilobytes asks for huge images"
    pixels = np.arange(2 * np.prod(embedder.size) * 3, dtype=np.uint32).astype(np.uint8)
    points = embedder.embed(pixels.reshape(2, *embedder.size, 3))
    assert len(points) == 2
    assert np.isfinite(points).all()
    return points


def _run_config() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(flatten(default_config())))
    return found


_DIGESTS = {"train": "1" * 32, "held_out": "2" * 32}


def _make_run(folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"config": _run_config(), "digests": _DIGESTS}, indent=1) + "\n")


def _read_run(folder: Path) -> Any:
    run = RunDirectory(folder)
    try:
        run.check(_run_config(), _DIGESTS)
    finally:
        run.close()
    return "the same run"


_ROWS = [{"step": step, "loss": 0.5 / step, "time": 1.0} for step in range(1, 9)]


def _make_metrics(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _ROWS))


def _read_metrics(folder: Path) -> Any:
    rows = read_metrics(folder)
    assert all(isinstance(row, dict) for row in rows)
    return rows


def _rate(far: float) -> dict[str, Any]:
    return {"far": far, "threshold": 1.0 - far, "far_reached": far, "far_at_threshold": far, "val": 0.9}


def _make_evaluation(folder: Path) -> None:
    result = {
        "rates": [_rate(0.01), _rate(0.1)],
        "same_pairs": 10,
        "different_pairs": 1000,
        "accuracy": 0.9,
        "standard_error": 0.01,
        "area": 0.95,
        "equal_error_rate": 0.1,
        "roc": {"far": [0.01, 0.1, 1.0], "val": [0.5, 0.9, 1.0]},
        "histogram": {"same": [6, 3, 1, 0], "different": [10, 90, 300, 600]},
        "wrong": {
            "false_accepts": [["ada/0.png", "ben/0.png", 0.8]],
            "false_rejects": [["ada/0.png", "ada/1.png", 1.2]],
            "worst_identities": [{"name": "ada", "rejected": 1, "same_pairs": 3, "false_accepts": 1}],
        },
        "few_faces": {"keys": ["ada/0.png", "ben/0.png"], "people": [0, 1], "distances": [[0, 0.8], [0.8, 0]]},
    }
    entry = {"name": "a network", "digest": _DIGEST, "crop": "none", "result": result}
    document = {"protocol": "photos", "data": "others", "crop": "none", "embedders": [entry]}
    (folder / "photos.json").write_text(json.dumps(document, indent=1) + "\n")


def _finder() -> Any:
    return SimpleNamespace(name="a network", digest=_DIGEST, crop="none", options="--embedder RUN")


def _read_evaluation(folder: Path) -> Any:
    found = [*map(str, read_thresholds(folder / "photos.json", _finder()))]
    figures_of(folder / "photos.json", _DIGEST, "a network")
    return found


def _read_page(folder: Path) -> Any:
    return build(collect([folder]), "a report")


def _make_report(folder: Path) -> None:
    (folder / "report.json").write_text(json.dumps({"step": 6, "table": "all well", "holdout": {}}, indent=1) + "\n")


def _read_report(folder: Path) -> Any:
    found = finished_report(folder, 6)
    assert found is None or isinstance(found, str)
    return found


def _make_index(folder: Path) -> None:
    index = PeopleIndex("run", 6, "a network", _DIGEST, "none", Vectors(8))
    faces = _embedded()
    people = [name.split("/")[0] for name in faces.files]
    index.add(faces.points, people, list(faces.files), [content_digest(name.encode()) for name in faces.files])
    (folder / "index").mkdir()
    save_index(index, folder / "index")


def _read_index(folder: Path) -> Any:
    index = load_index(folder / "index")
    near = [[(one.person, one.distance, one.file) for one in row] for row in index.nearest(_points(4), 2)]
    return near, index.digest, index.crop, index.files, index.contents, index.thresholds


def _make_prepared(folder: Path) -> None:
    prepare(_folder(folder / "faces"), folder / "out", crop="none", workers=0)


def _read_prepared(folder: Path) -> Any:
    source = open_dataset(folder / "out")
    faces = []
    for record in range(source.index.records):
        try:
            faces.append(source.load(record, (8, 8)))
        except BadFace as bad:
            faces.append(np.array(bad.reason.words))
    lost = sum(face.ndim == 0 for face in faces)
    if lost:  # damaged faces are reported and counted
        raise InputError(f"{lost} faces are damaged.")
    whose = source.index.identity_of(np.arange(source.index.records))
    return faces, whose, source.digest


def _read_prepared_names(folder: Path) -> Any:
    source = open_dataset(folder / "out")
    places = list(source.places())
    assert len(places) == source.index.records
    return list(source.index.names), places


def _read_summary(folder: Path) -> Any:
    return format_summary(read_summary(folder / "out"), folder / "out")


def _make_job(folder: Path) -> None:
    _make_prepared(folder)
    card = json.loads((folder / "out" / "card.json").read_text())
    job = {field.name: card[field.name] for field in fields(Job)}
    (folder / "prepare.json").write_text(json.dumps(job, indent=1) + "\n")


def _read_job(folder: Path) -> Any:
    job = read_job(folder)
    return job and (job, job.shards, job.faces_of(0))


def _make_part(folder: Path) -> None:
    from facenet_jax.datasets.names import join_names

    places = [f"p/{n}.png" for n in range(6)]
    write_arrays(
        folder / "part.npz",
        shard_bytes=np.array(1000),
        identities=np.arange(6),
        places=join_names(places),
        contents=np.arange(96, dtype=np.uint8).reshape(6, 16),
        looks=np.arange(96, dtype=np.uint16).reshape(6, 16),
        faces=np.ones(6, np.int64),
        fallback=np.zeros(6, bool),
        rejected=join_names(["p/7.png"]),
        reasons=np.array([3], np.uint8),
    )


def _read_part(folder: Path) -> Any:
    try:
        held = read_records(folder / "part.npz")
    except (OSError, ValueError, KeyError) as error:  # the shard is made again
        raise InputError(f"part.npz: {type(error).__name__}.") from error
    return held.__dict__


def _state(step: int) -> dict[str, Any]:
    import jax.numpy as jnp

    values = jnp.arange(4096, dtype=jnp.float32).reshape(64, 64) * step
    return {
        "params": {"dense": {"kernel": values, "bias": values[0]}},
        "opt_state": {"sum": values + 1},
        "step": jnp.int32(step),
    }


def _make_checkpoints(folder: Path) -> None:
    checkpoints = Checkpoints(folder, keep=3)
    for step in (1, 2):
        checkpoints.save(step, _state(step), _run_config(), 0.5 + step / 10)
    checkpoints.close()


def _read_checkpoint(folder: Path) -> Any:
    from facenet_jax.embedders.checkpoint import _restored

    checkpoints = Checkpoints(folder, read_only=True)
    try:
        step = checkpoints.best_or_latest()
        config, params = _restored(checkpoints, step, folder)
    finally:
        checkpoints.close()
    return step, flatten(config), params


def _read_latest(folder: Path) -> Any:
    import jax
    from jax.sharding import SingleDeviceSharding

    here = SingleDeviceSharding(jax.local_devices()[0])
    whole = jax.tree.map(jax.numpy.asarray, _state(1))
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), whole)
    said: list[str] = []
    checkpoints = Checkpoints(folder, keep=3)
    try:
        found = checkpoints.restore_latest(target, said.append)
    finally:
        checkpoints.close()
    assert found is not None, "checkpoints are there, and none was found"
    step, state = found
    assert step == 2 or said or 2 not in {int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit()}
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(_state(step)), strict=True):
        assert np.array_equal(np.asarray(a), np.asarray(b)), "another state than was saved"
    return "a state that was saved"


def _make_list(folder: Path) -> None:
    _folder(folder / "faces")
    (folder / "list.txt").write_text("p0\np1/0.png\nJosé\n", encoding="utf-8")


def _read_exclude(folder: Path) -> Any:
    named = find_named(open_listed(folder / "faces"), read_list(folder / "list.txt", "--exclude"))
    return named.identities, named.records, named.unknown


def _read_config(folder: Path) -> Any:
    from facenet_jax.training.run_identities import _has_changed

    faces: Any = SimpleNamespace(digest=_DIGESTS["train"])
    return _has_changed(folder, faces)


_ONE_STEP = ("checkpoints/2/**/*",)

KINDS: tuple[Kind, ...] = (
    _image("jpeg", "jpeg"),
    _image("jpeg with EXIF", "jpeg", exif=True),
    _image("png", "png", checked=True),
    _image("png with EXIF", "png", checked=True, exif=True),
    _image("webp", "webp"),
    _image("pgm", "ppm", grey=True),
    Kind("manifest CSV", _make_csv, lambda f: _listed(open_listed(f / "list.csv")), ("list.csv",), weight=6),
    Kind("manifest Parquet", _make_parquet, lambda f: _listed(open_listed(f / "list.parquet")), ("list.parquet",),
         needs="pyarrow"),
    Kind("RecordIO", _make_recordio, lambda f: _listed(open_listed(f)), ("train.*", "property"), weight=8),
    Kind("LFW pairs", _make_lfw, lambda f: _pairs(read_lfw_pairs(f / "pairs.txt")), ("pairs.txt",), weight=6),
    Kind("YTF splits", _make_ytf, lambda f: _pairs(read_ytf_splits(f / "splits.txt")), ("splits.txt",), weight=6),
    Kind(".bin", _make_bin, _read_bin, ("lfw.bin",), weight=8),
    _embeddings("embeddings npz", ".npz"),
    _embeddings("embeddings Parquet", ".parquet", "pyarrow"),
    Kind("ONNX", _make_onnx, _read_onnx, ("net.onnx",), needs="onnx"),
    Kind("ONNX with card", _make_onnx_and_card, _read_onnx, ("net.onnx*",), checked=True, needs="onnx"),
    Kind("run.json", _make_run, _read_run, ("run.json",), weight=6),
    Kind("run.json, digests", _make_run, _read_config, ("run.json",), weight=2),
    Kind("metrics.jsonl", _make_metrics, _read_metrics, ("metrics.jsonl",)),
    Kind("report.json of a run", _make_report, _read_report, ("report.json",), weight=2),
    Kind("evaluation as thresholds", _make_evaluation, _read_evaluation, ("photos.json",), weight=6),
    Kind("evaluation in a report", _make_evaluation, _read_page, ("photos.json",), weight=4),
    Kind("index", _make_index, _read_index, ("index/[!.]*",), checked=True, weight=8, needs="faiss"),
    Kind("prepared: card, index, shards", _make_prepared, _read_prepared,
         ("out/card.json", "out/index/[olc]*.npy", "out/*.array_record"), checked=True, weight=8),
    Kind("prepared: names", _make_prepared, _read_prepared_names, ("out/index/names.*", "out/index/files.*")),
    Kind("prepared: report.json", _make_prepared, _read_summary, ("out/report.json",), weight=3),
    Kind("prepare.json", _make_job, _read_job, ("prepare.json",), weight=3),
    Kind("parts of prepare", _make_part, _read_part, ("part.npz",), checked=True),
    Kind("checkpoint to embed with", _make_checkpoints, _read_checkpoint, _ONE_STEP, checked=True, weight=4, slow=True),
    Kind("val.json", _make_checkpoints, _read_checkpoint, ("checkpoints/val.json",), weight=1, slow=True),
    Kind("checkpoint to go on from", _make_checkpoints, _read_latest, _ONE_STEP, weight=3, slow=True),
    Kind("exclude list", _make_list, _read_exclude, ("list.txt",)),
)  # fmt: skip


def reading(value: Any) -> str:
    """A digest of what was read: equal for equal readings."""
    found = hashlib.blake2b(digest_size=16)
    _feed(found, value)
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            found.update(f"\0{key}\0".encode("utf-8", "surrogatepass"))
            _feed(found, value[key])
    elif isinstance(value, list | tuple):
        found.update(f"\0{len(value)}".encode())
        for one in value:
            _feed(found, one)
    elif isinstance(value, bytes):
        found.update(value)
    elif hasattr(value, "dtype"):
        array = np.asarray(value)
        found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    else:
        found.update(repr(value).encode("utf-8", "surrogatepass"))
