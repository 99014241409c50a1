"""Every command in a block of the documents runs, on drawn faces, unless its block says why not."""

import contextlib
import io
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from documents import MARKED, PAGES, ROOT, commands, known_parsers, options_of
from facenet_jax.cli import main
from facenet_jax.datasets.drawn import render
from facenet_jax.models.networks import NETWORKS, NetworkSpec
from facenet_jax.report.server import FolderServer
from networks import SMALL_ROWS, linear_network
from preparing import prepared
from tiny import TINY

pytestmark = pytest.mark.documents

# What takes the place of a pretrained network, of a step that a short run does not reach, and of a word to fill in.
IN_PLACE = {"sface": "onnx:net.onnx", "similarity": "none", "PROTOCOL": "holdout", "EMBEDDER": "runs/nn4"}
IN_PLACE |= {"--trace=20": "--trace=2"}
CUT = ("--embedder", "onnx:net.onnx", "--crop", "none")
SHORT = (*TINY, "--config.model.name=nns2", "--config.model.dtype=float32", "--config.steps=2")
SMALL = NetworkSpec("NNS2 with fewer rows", SMALL_ROWS, NETWORKS["nns2"].input_size)


def blocks_to_run():
    """The commands of each block that are to be run, once for all blocks that have the same."""
    found = {}
    for page in PAGES:
        for number, whole in enumerate(MARKED.finditer(page.read_text())):
            words = tuple(dict.fromkeys(tuple(words) for words, why in commands(whole[0]) if not why))
            if words:
                found.setdefault(words, f"{page.relative_to(ROOT)}:{number}")
    return [pytest.param(words, id=name) for words, name in found.items()]


def drawn(folder, seed=7, people=6, faces=5):
    for person in range(people):
        (folder / f"person {person:02d}").mkdir(parents=True)
        for number in range(faces):
            face = Image.fromarray(np.asarray(render(seed, person, number, (32, 32))))
            face.save(folder / f"person {person:02d}" / f"{number}.jpg")


def run(words):
    """Runs a command, which ends with exit code 0."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(list(words))
    assert code == 0, f"{shlex.join(words)}: {said.getvalue()[-2000:]}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with what the documents' commands read, by the names that they have there."""
    for library in ("faiss", "onnx", "onnxruntime", "pyarrow"):
        pytest.importorskip(library)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "nns2", SMALL)
        yield make(tmp_path_factory.mktemp("made"))


def make(made):
    drawn(made / "photos", people=8)
    for name in ("gallery", "people", "other_people", "DATA", "more_photos", "lfw"):
        drawn(made / name, seed=8 + (name == "lfw"), people=10 if name == "people" else 6)  # 1,125 pairs for FAR 0.001
    for name in ("a", "b", "photo", "somebody", "new"):
        shutil.copy(made / "photos" / "person 03" / "2.jpg", made / f"{name}.jpg")
    for number, name in enumerate(("Ada", "Ben", "Cem")):
        shutil.move(made / "gallery" / f"person {number:02d}", made / "gallery" / name)
    shutil.move(made / "gallery" / "Cem" / "0.jpg", made / "gallery" / "Cem" / "2019.jpg")
    linear_network(made / "net.onnx", (16, 16), "nhwc", None, d=16)
    linear_network(made / "w600k_r50.onnx", (112, 112), "nchw", None, d=16)
    (made / "watch.py").write_text("def log(step, figures):\n    pass\n")
    prepared(made / "photos", made / "faces")
    with contextlib.chdir(made):
        common = [*CUT, "--data", "people", "--out", "results"]
        run(["evaluate", "photos", *common, "--far", "0.01", "0.001"])
        run(["evaluate", "identify", *common])
        run(["train", "--config=quickstart", "--workdir=runs/quickstart", *SHORT])
        for name in ("nn4", "old", "new", "mine"):
            shutil.copytree("runs/quickstart", f"runs/{name}")
        run(["evaluate", "holdout", "--embedder", "runs/nn4", "--data", "people", "--out", "results"])
        run(["export", "runs/nn4", "--to", "onnx", "-o", "nn4_int8.onnx", "--dtype", "int8", "--calibrate", "photos"])
        run(["album", "photos", "-o", "album", *CUT])
        run(["enroll", "gallery", "index", *CUT, "--evaluation", "results/photos.json"])
    return made


def arguments(words):
    """What is run for a command of the documents: the smallest network, on pictures that are faces already."""
    path = next(words[1:n] for n in (3, 2) if words[1:n] in known_parsers())
    given = [IN_PLACE.get(word, word) for word in words[1:]]
    if path == ("train",):
        return [*given, *SHORT]
    if path == ("album",) and "--embedder" not in given:
        given += ["--embedder", "onnx:net.onnx"]
    if (
        path[0] != "identify"
        and "--crop" in options_of(path)
        and "--crop" not in given
        and (path[0] != "export" or "--calibrate" in given)
    ):
        given += ["--crop", "none"]
    return given + (["--workers", "0"] if path == ("prepare",) else [])


def named(words):
    """The file or folder that a command is told to write to, or None."""
    told = re.search(r"(?:-o|--out|--workdir)[ =](\S+)", " ".join(words))
    if words[1] in ("prepare", "enroll"):
        return Path(words[3] if words[1] == "prepare" or words[2] != "index" else "index")
    if words[1] == "train" and not told:
        return Path("runs", words[2].removeprefix("--config="))
    return Path(told[1]) if told else None


def state(place):
    """The files of a folder, or a file, with their times."""
    files = [place] if place.is_file() else place.rglob("*")
    return {(file, file.stat().st_mtime_ns) for file in files if file.is_file()}


@pytest.mark.parametrize("lines", blocks_to_run())
def test_a_block_runs(lines, made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # `train --on-metrics` adds the folder
    monkeypatch.setattr(FolderServer, "serve_forever", lambda self: None)
    for place in {named(words) for words in lines} - {None, Path("results"), Path("index")}:
        (shutil.rmtree if place.is_dir() else lambda file: file.unlink(missing_ok=True))(place)
    for words in lines:
        written = named(words)
        before = state(written) if written else None
        run(arguments(words))
        assert written is None or state(written) - before, f"{shlex.join(words)} wrote nothing to {written}"
