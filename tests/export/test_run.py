"""`facenet-jax export`: files of every form, their cards, and what it refuses."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from facenet_jax.cli import main
from facenet_jax.embedders import OnnxEmbedder, open_embedder
from facenet_jax.errors import InputError
from facenet_jax.export.run import Wanted, _faces, export
from facenet_jax.images.cut import FaceCutter
from networks import saved_run
from preparing import prepared

IMAGES = np.random.default_rng(3).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def expected(run):
    return open_embedder(str(run)).embed(IMAGES)


def test_an_exported_file_is_an_embedder_without_options(exported, expected):
    embedder = open_embedder(f"onnx:{exported()}")
    assert isinstance(embedder, OnnxEmbedder)
    assert (embedder.size, embedder.crop) == ((32, 32), "none")
    np.testing.assert_allclose(embedder.embed(IMAGES), expected, atol=1e-4)
    assert embedder.remarks == []


@pytest.mark.parametrize(("form", "dtype", "flip"), [("onnx", "float32", True), ("stablehlo", "float16", False)])
def test_an_ensemble_is_exported_as_one_network(tmp_path, form, dtype, flip):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    run = saved_run(tmp_path / "pair", **{"model.members": 2})
    file = tmp_path / f"pair.{form}"
    export(Wanted(Path(run), form, file, dtype, flip=flip))
    card = json.loads(file.with_name(file.name + ".json").read_text())
    assert (card["network"]["name"], card["output"]["shape"]) == ("2 x nns2", ["N", 64])
    assert card["parity"]["largest_difference"] < (1e-4 if dtype == "float32" else 0.01)


@pytest.mark.parametrize(
    ("expects", "asked", "used"), [("centre", None, "centre"), ("centre", "none", "none"), ("none", None, "none")]
)
def test_faces_are_calibrated_on_as_the_network_expects_them(tmp_path, expects, asked, used, capsys):
    class Network:
        name, size, crop = "a network", (16, 16), expects

    photograph = tmp_path / "faces" / "ada" / "0.png"
    photograph.parent.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3)).astype(np.uint8)).save(photograph)
    told = []
    (face,) = _faces(tmp_path / "faces", Network(), asked, told.append)
    np.testing.assert_array_equal(face, FaceCutter(used)(photograph.read_bytes(), (16, 16))[0].pixels)
    line = "faces are cut with --crop centre, as a network expects; if they are already, --crop none"
    assert told == [line] * (used == "centre")
    assert ("expects faces cut with --crop centre" in capsys.readouterr().err) == (expects != used)


def test_faces_that_were_cut_when_they_were_prepared_are_taken_as_they_are(photos, tmp_path, capsys):
    class Network:
        name, size, crop = "a network", (16, 16), "centre"

    prepared(photos, tmp_path / "cut", crop="centre", size=16)
    told = []
    assert len(_faces(tmp_path / "cut", Network(), None, told.append)) == 64
    assert not told
    assert "warning" not in capsys.readouterr().err


def test_stablehlo_takes_any_number_of_images(exported, expected):
    network = jax.export.deserialize(bytearray(exported("stablehlo").read_bytes()))
    assert {"cpu", "cuda", "tpu"} <= set(network.platforms)
    for count in (1, 5):
        np.testing.assert_allclose(network.call(IMAGES[:count]), expected[:count], atol=1e-4)


@pytest.mark.parametrize(
    ("form", "dtype", "bound"), [("onnx", "float16", 0.01), ("onnx", "int8", 0.1), ("stablehlo", "float16", 0.01)]
)
def test_shorter_numbers_give_smaller_files_and_change_little(exported, expected, form, dtype, bound):
    file, whole = exported(form, dtype), exported(form)
    if form == "onnx":
        found = open_embedder(f"onnx:{file}").embed(IMAGES)
    else:
        found = np.asarray(jax.export.deserialize(bytearray(file.read_bytes())).call(IMAGES))
    off = np.abs(found - expected).max()
    assert 0 < off < bound
    assert file.stat().st_size < 0.65 * whole.stat().st_size
    card = json.loads(file.with_name(file.name + ".json").read_text())
    assert card["parity"]["largest_difference"] < bound


def test_the_card_says_what_a_reader_needs(exported, run):
    file = exported()
    card = json.loads(file.with_name(file.name + ".json").read_text())
    assert card["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert card["bytes"] == file.stat().st_size
    assert card["input"]["shape"] == ["N", 32, 32, 3]
    assert card["output"]["shape"] == ["N", 64]
    assert card["checkpoint"] == {"run": "tiny", "step": 6, "digest": open_embedder(str(run)).digest}
    assert card["parity"]["largest_difference"] < 1e-4
    assert card["evaluation"] is None
    assert str(run.parent) not in json.dumps(card)


def test_missing_dependencies_of_stablehlo_are_named(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    assert main(["export", str(run), "--to=stablehlo", f"--out={tmp_path / 'net'}"]) == 2
    assert (
        "need flatbuffers: make setup EXTRAS=onnx in the repository, or pip install -e '.[onnx]' there"
        in capsys.readouterr().err
    )


def test_figures_of_an_evaluation_go_onto_the_card(run, photos, tmp_path, capsys):
    pytest.importorskip("flatbuffers")
    assert main(["evaluate", "holdout", f"--embedder={run}", f"--data={photos}", "--far=0.1", f"--out={tmp_path}"]) == 0
    result = tmp_path / "holdout.json"
    command = ["export", str(run), "--to=stablehlo", f"--out={tmp_path / 'net'}", f"--evaluation={result}"]
    assert main(command) == 0
    assert "at FAR 0.1 (of the checkpoint, in float32)" in capsys.readouterr().out
    card = json.loads((tmp_path / "net.json").read_text())
    rate = json.loads(result.read_text())["embedders"][0]["result"]["rates"][0]
    assert card["evaluation"]["rates"][0] == rate
    assert (card["evaluation"]["protocol"], card["evaluation"]["crop"]) == ("holdout", "none")
    assert main([*command, "--step=4"]) == 0  # another step with the same parameters
    document = json.loads(result.read_text())
    document["embedders"][0]["digest"] = "another"
    result.write_text(json.dumps(document))
    assert main(command) == 2
    assert "its digest is another" in capsys.readouterr().err


def test_a_file_that_does_not_match_its_card_is_refused(exported, tmp_path):
    for file in (exported(), exported().with_name(exported().name + ".json")):
        shutil.copy(file, tmp_path)
    file = tmp_path / exported().name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"is not the file that its card tiny_float32\.onnx\.json describes"):
        open_embedder(f"onnx:{file}")
    card = tmp_path / (file.name + ".json")
    card.write_text(card.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(InputError, match="of a format that this version does not know"):
        open_embedder(f"onnx:{file}")
    card.write_text("{")
    with pytest.raises(InputError, match="not a card of an exported file"):
        open_embedder(f"onnx:{file}")
    card.unlink()
    assert open_embedder(f"onnx:{exported()}").size == (32, 32)


@pytest.mark.parametrize("name", ["metadata", "_METADATA"])
def test_a_damaged_checkpoint_is_refused_in_one_sentence(run, tmp_path, name):
    shutil.copytree(run, tmp_path / "run")
    damaged = [file for file in (tmp_path / "run").rglob(name) if "6" in file.parts]
    assert damaged
    for file in damaged:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=r"the checkpoint of step 6 in .* is damaged") as caught:
        open_embedder(str(tmp_path / "run"))
    assert len(str(caught.value).splitlines()) == 1
    assert open_embedder(str(tmp_path / "run"), step=4).size == (32, 32)


def test_mistakes_are_refused_in_one_sentence(run, exported, photos, tmp_path):
    def refused(sentence, workdir=run, to="onnx", file=tmp_path / "net", **more):
        with pytest.raises(InputError, match=sentence):
            export(Wanted(workdir, to, file, **more))

    refused("int8 is made for ONNX", to="stablehlo", dtype="int8", calibrate=photos)
    refused("go together", dtype="int8")
    refused("go together", calibrate=photos)
    refused("--crop=centre says how the faces of --calibrate are cut", crop="centre")
    refused("no checkpoint of step 5; there are: 4, 6", step=5)
    refused("give the working directory of a run", workdir=tmp_path)
    refused("is not a folder; make it", file=tmp_path / "none" / "net")
    refused("is a folder; give -o a file", file=tmp_path)
    refused("cannot be read", evaluation=tmp_path / "none.json")
    (tmp_path / "other.json").write_text("[]")
    refused("not a result of `facenet-jax evaluate`", evaluation=tmp_path / "other.json")
    (tmp_path / "faces" / "ada").mkdir(parents=True)
    (tmp_path / "faces" / "ada" / "1.jpg").write_bytes(b"\xff\xd8\xff nothing")
    refused("none of the images of", dtype="int8", calibrate=tmp_path / "faces")
    with pytest.raises(InputError, match="leave scale=… and mean=… out"):
        open_embedder(f"onnx:{exported()},scale=1")
    assert not list(tmp_path.glob("net*"))


def test_nothing_is_unpickled(run, exported, monkeypatch):
    import pickle

    def refuse(*_, **__):
        raise AssertionError("something was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    open_embedder(str(run)).embed(IMAGES)
    open_embedder(f"onnx:{exported()}").embed(IMAGES)
    jax.export.deserialize(bytearray(exported("stablehlo").read_bytes()))


# In a process of its own, because Orbax leaves tasks running, and their messages, when what it reads is damaged.
DAMAGE = """
import json, sys
from pathlib import Path
from facenet_jax.embedders import CheckpointEmbedder
from facenet_jax.errors import InputError

whole, workdir = CheckpointEmbedder(Path(sys.argv[1]), 6).digest, Path(sys.argv[2])
outcomes = []
for file in workdir.rglob("*"):
    if not (file.is_file() and {"6", "state", "d"} <= set(file.parts)):
        continue
    data = file.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 12)):
        file.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        try:
            outcomes.append("as saved" if CheckpointEmbedder(workdir, 6).digest == whole else "others")
        except InputError as error:
            outcomes.append("changed" if "holds other values than were saved" in str(error) else "unreadable")
    file.write_bytes(data)
print(json.dumps(outcomes))
"""


def test_changed_parameters_are_never_used(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    command = [sys.executable, "-c", DAMAGE, str(run), str(tmp_path / "run")]
    outcomes = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert "others" not in outcomes
    assert {"changed", "unreadable"} <= set(outcomes)


@pytest.mark.parametrize(("form", "dtype"), [("onnx", "float32"), ("onnx", "int8"), ("stablehlo", "float32")])
def test_one_file_takes_the_mean_with_the_mirror_image(run, photos, expected, tmp_path, capsys, form, dtype):
    pytest.importorskip("onnxruntime")
    file = tmp_path / f"net.{form}"
    calibrate = [f"--calibrate={photos}"] if dtype == "int8" else []
    command = ["export", str(run), f"--to={form}", f"--out={file}", f"--dtype={dtype}", "--flip", *calibrate]
    assert main(command) == 0
    assert f"{form} in {dtype} with flip" in capsys.readouterr().out
    both = open_embedder(f"flip:{run}")
    mean = both.embed(IMAGES)
    assert np.abs(mean - expected).max() > 0.002
    card = json.loads(file.with_name(file.name + ".json").read_text())
    assert card["flip"] is True
    if form == "stablehlo":
        network = jax.export.deserialize(bytearray(file.read_bytes()))
        for count in (1, 5):
            np.testing.assert_allclose(network.call(IMAGES[:count]), mean[:count], atol=1e-4)
        return
    embedder = open_embedder(f"onnx:{file}")
    assert embedder.name == f"onnx:{file} with flip"
    bound = 1e-4 if dtype == "float32" else 0.1
    for count in (1, 5):
        np.testing.assert_allclose(embedder.embed(IMAGES[:count]), mean[:count], atol=bound)
    np.testing.assert_allclose(embedder.embed(IMAGES[:, :, ::-1]), embedder.embed(IMAGES), atol=1e-5)
    with pytest.raises(InputError, match="takes the mean with the mirror image already; leave flip out"):
        open_embedder(f"flip:onnx:{file}")


def test_the_card_of_a_flipped_file_takes_only_figures_of_flipped_points(run, photos, tmp_path, capsys):
    pytest.importorskip("flatbuffers")
    result = tmp_path / "holdout.json"
    evaluate = ["evaluate", "holdout", f"--embedder={run}", f"--data={photos}", "--far=0.1", f"--out={tmp_path}"]
    assert main(evaluate) == 0
    command = ["export", str(run), "--to=stablehlo", f"--out={tmp_path / 'net'}", f"--evaluation={result}", "--flip"]
    assert main(command) == 2
    assert "is not of" in (error := capsys.readouterr().err)
    assert "with flip as it is now (its digest is another)" in error
    assert main([*evaluate, "--flip"]) == 0
    assert main(command) == 0
    assert "at FAR 0.1 (of the checkpoint with flip, in float32)" in capsys.readouterr().out
    card = json.loads((tmp_path / "net.json").read_text())
    entries = json.loads(result.read_text())["embedders"]
    assert card["evaluation"]["rates"] == entries[1]["result"]["rates"]
    assert card["evaluation"]["of"] == "the checkpoint with flip, in float32"
    assert card["network"]["multiply_adds"] == entries[1]["multiply_adds"] == 2 * entries[0]["multiply_adds"]
