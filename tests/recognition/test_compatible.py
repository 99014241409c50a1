"""A new network with people whom an old one enrolled: found by its own threshold, refused where nothing says that."""

import json
from pathlib import Path

import pytest

from facenet_jax.embedders import open_embedder
from networks import saved_run

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An old run, one that was trained to be compatible with it, and one that was not."""
    folder = tmp_path_factory.mktemp("runs")
    old, new, other = (saved_run(folder / name, seed=seed) for seed, name in enumerate(("old", "new", "other")))
    digests = {"train": "", "held_out": "", "compatible_with": open_embedder(old).digest}
    (Path(new) / "run.json").write_text(json.dumps({"config": {}, "digests": digests}))
    return old, new, other


def test_identify_takes_a_compatible_network_and_no_other(runs, photos, tmp_path, said):
    old, new, other = runs
    index, probe = tmp_path / "index", photos / "person 00" / "0.png"
    common = [f"--data={photos}", "--false-alarms=0.5", "--crop=none"]
    assert said("evaluate", "identify", f"--embedder={old}", *common, f"--out={tmp_path / 'old'}")[0] == 0
    kept = ["--evaluation", tmp_path / "old" / "identify.json"]
    assert said("enroll", photos, index, "--embedder", old, "--crop=none", *kept)[0] == 0

    ask = ["identify", probe, index, "--accept-rate=1", "--embedder"]
    code, _, sentence = said(*ask, other)
    assert code == 2
    assert f"was enrolled with {old} at step 6, and {other} at step 6 is another embedder" in sentence
    both = f"{new} at step 6 against {old} at step 6"
    code, _, sentence = said(*ask, new)  # the index's own thresholds are of another comparison
    assert code == 2
    assert f"has none of {both}: give --evaluation" in sentence
    assert f"evaluate identify --embedder {new} --step 6 --against {old} --crop none" in sentence

    results = tmp_path / "new"
    assert said("evaluate", "identify", f"--embedder={new}", *common, f"--out={results}")[0] == 0
    code, _, sentence = said(*ask, new, "--evaluation", results / "identify.json")
    assert code == 2
    assert f"and not of {both} as it is now" in sentence
    assert said("evaluate", "identify", f"--embedder={new}", f"--against={old}", *common, f"--out={results}")[0] == 0
    code, out, _ = said(*ask, new, "--evaluation", results / "identify.json", "-o", tmp_path / "found.json")
    assert code == 0
    assert f"compared        {both}, which enrolled the people" in out
    entry = json.loads((results / "identify.json").read_text())["embedders"][1]
    assert json.loads((tmp_path / "found.json").read_text())["threshold"]["distance"] == pytest.approx(
        entry["result"]["open_set"][0]["threshold"]
    )
    code, _, sentence = said("enroll", photos, index, "--embedder", new, "--crop=none")
    assert code == 2
    assert "no threshold would hold for points of both in it" in sentence
    assert said(*ask, old)[0] == 0
