"""Runs with offline selection: tables are made when due, kept, and found again by a resumed run."""

from types import SimpleNamespace

import numpy as np
import pytest

from facenet_jax import models
from facenet_jax.cli import main
from facenet_jax.config import load_config
from facenet_jax.datasets.index import IdentityIndex
from facenet_jax.input.hard_batches import HardTable
from facenet_jax.input.plan import DatasetShare
from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.training.metrics import read_metrics
from facenet_jax.training.offline_selection import OfflineSelection
from facenet_jax.training.training_faces import TrainingFaces
from same_run import assert_same_run
from tiny import TINY

OFFLINE = ("--config.offline.every=3", "--config.offline.faces=60")


def train(workdir, mode, steps, *overrides):
    mode = f"--config.offline.mode={mode}"
    steps = f"--config.steps={steps}"
    return main(["train", "--config=quickstart", f"--workdir={workdir}", *TINY, *OFFLINE, mode, steps, *overrides])


@pytest.fixture(scope="module", params=["mixed", "alone"])
def whole(request, tmp_path_factory):
    """A run of eight steps in one go, with tables at steps 3 and 6."""
    workdir = tmp_path_factory.mktemp("offline") / request.param
    assert train(workdir, request.param, 8) == 0
    return workdir, request.param


def test_a_finished_run_needs_no_table(whole):
    workdir, mode = whole
    files = sorted(path.name for path in (workdir / "offline").iterdir())
    (workdir / "offline" / "6.npz").rename(workdir / "aside.npz")
    (workdir / "report.json").unlink()  # as if killed before writing it
    try:
        assert train(workdir, mode, 8) == 0
        assert train(workdir, mode, 6) == 0
        assert not (workdir / "offline" / "6.npz").exists()
    finally:
        (workdir / "aside.npz").rename(workdir / "offline" / "6.npz")
    assert sorted(path.name for path in (workdir / "offline").iterdir()) == files
    assert [row["step"] for row in read_metrics(workdir) if "offline_faces" in row] == [3, 6]


def test_tables_are_made_when_due_and_their_figures_logged(whole):
    workdir, _ = whole
    rows = [row for row in read_metrics(workdir) if "offline_wrong_share" in row]
    assert [row["step"] for row in rows] == [3, 6]
    for row in rows:
        assert 0 <= row["offline_wrong_share"] <= 1
        assert 60 <= row["offline_faces"] <= 80  # batches of 16 visited faces
        assert row["offline_hardest_ap"] > row["offline_nearest_an"] > 0
    with np.load(workdir / "offline" / "6.npz") as table:
        faces = rows[1]["offline_faces"]
        assert table["positives"].shape == (faces, 1)
        assert table["negatives"].shape == (faces, 5)


def test_in_mode_alone_batches_are_triplets(whole):
    workdir, mode = whole
    pairs = {row["step"]: row["pairs"] for row in read_metrics(workdir) if "pairs" in row}
    if mode == "alone":
        assert [pairs[step] for step in (4, 5, 6, 7, 8)] == [6] * 5  # 18 rows
    assert pairs[3] > 18


def test_a_run_that_goes_on_between_tables_meets_the_same_batches(whole, tmp_path):
    workdir, mode = whole
    for stops in ((5,), (3, 6)):  # between tables, and where one is due
        parts = tmp_path / str(stops)
        for steps in (*stops, 8):
            assert train(parts, mode, steps, "--config.data.workers=0", "--config.checkpoint.every=100") == 0
        assert_same_run(parts, workdir, 8)


def test_faces_drawn_beside_a_table_keep_the_quotas(tmp_path):
    """Two people have three faces and others more: a mixed batch visits only people with four faces or more."""
    counts = np.array([3, 3, *[8] * 12])
    index = IdentityIndex([f"{n:02d}" for n in range(len(counts))], np.concatenate([[0], np.cumsum(counts)]))
    faces = TrainingFaces(SimpleNamespace(index=index), (DatasetShare(np.arange(len(counts)), 1.0, "all"),), None)
    config = load_config(
        "quickstart",
        [
            "--config.batch.size=20",
            "--config.batch.random_negatives=0",
            "--config.batch.faces_per_identity=4",
            "--config.batch.min_faces_per_identity=4",
            "--config.offline.every=5",
        ],
    )
    network, mesh = models.from_config(config.model), make_mesh(1)
    offline = OfflineSelection(config, network, mesh, faces, tmp_path)
    nothing = np.full((1, 1), -1)
    plan = offline.plan(5, HardTable(5, np.array([6]), nothing, nothing))  # the first face of a person of eight
    seen = np.concatenate([plan.batch(step).labels for step in range(5, 25)])
    assert len(seen) > 100
    assert not set(seen) & {0, 1}


def test_a_missing_damaged_or_foreign_table_is_refused_in_one_sentence(tmp_path, capsys):
    workdir = tmp_path / "run"
    assert train(workdir, "mixed", 5) == 0
    table = workdir / "offline" / "3.npz"
    whole = table.read_bytes()
    for damage, words in (
        (lambda: table.write_bytes(whole[:100]), "cannot be read"),
        (lambda: table.unlink(), "is missing"),
        (lambda: np.savez(table, made_for="{}", anchors=[1], positives=[[1]], negatives=[[1]]), "another run"),
    ):
        damage()
        capsys.readouterr()
        assert train(workdir, "mixed", 8) == 2
        assert words in capsys.readouterr().err
    table.write_bytes(whole)
    assert train(workdir, "mixed", 8) == 0


def test_tables_that_no_checkpoint_needs_are_removed(tmp_path):
    workdir = tmp_path / "run"
    assert train(workdir, "mixed", 13, "--config.checkpoint.keep=1") == 0
    tables = {int(path.stem) for path in (workdir / "offline").glob("*.npz")}
    assert 12 in tables
    assert 3 not in tables
