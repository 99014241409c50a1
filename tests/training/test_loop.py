"""Whole runs by the command `train`, in this process: what they write, resuming, and what is refused."""

import errno
import itertools
import json
import os
import shutil
import signal
import sys
import threading
from contextlib import closing

import jax
import numpy as np
import pytest
from jax._src.array import ArrayImpl

from facenet_jax.cli import main
from facenet_jax.runtime.checkpoints import Checkpoints
from facenet_jax.training import step_log
from facenet_jax.training.figures import Figures
from facenet_jax.training.metrics import METRICS_FILE, read_metrics
from same_run import params_at
from tiny import TINY


def train(workdir, *overrides, trace=()):
    return main(["train", "--config=quickstart", f"--workdir={workdir}", *trace, *TINY, *overrides])


def vals_of(workdir):
    """VAL of its checkpoints."""
    with closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        return checkpoints.vals()


def assert_identical(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of six steps, from start to end, with an evaluation on the way and a trace."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    assert train(workdir, "--config.eval.every=3", trace=["--trace=2"]) == 0
    assert train(workdir, "--config.eval.every=3", "--config.steps=7", trace=["--trace=3"]) == 2  # step 3 is past
    return workdir


def test_a_run_writes_its_report_pictures_metrics_and_checkpoints(finished, capsys):
    report = json.loads((finished / "report.json").read_text())
    assert report["step"] == 6
    assert "VAL" in report["table"]
    assert [rate["far"] for rate in report["holdout"]["rates"]] == [0.01, 0.001, 0.0019]  # 528 pairs resolve 0.0019
    for picture in ("roc.png", "loss.png"):
        assert (finished / picture).read_bytes().startswith(b"\x89PNG")
    steps = [row["step"] for row in read_metrics(finished) if "loss" in row]
    assert steps == [1, 2, 3, 4, 5, 6]
    first = next(row for row in read_metrics(finished) if "loss" in row)
    assert {"active_share", "mean_ap", "mean_an", "spread", "learning_rate"} <= set(first)
    assert [row["step"] for row in read_metrics(finished) if "val_far_0.01" in row] == [0, 3, 6]
    assert list((finished / "tensorboard").glob("events.*"))
    assert list((finished / "trace").rglob("*.xplane.pb"))
    assert not (finished / "bad_files.txt").exists()


def test_a_hook_gets_all_metrics_and_changes_nothing(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds the current folder
    (tmp_path / "watch_of_test.py").write_text(
        "rows = []\ndef log(step, figures):\n"
        "    rows.append({'step': step, **figures})\n    raise OSError('no network')\n"
    )
    assert train(tmp_path / "run", "--config.eval.every=3", trace=["--on-metrics=watch_of_test:log"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "no network" in line]
    assert len(told) == 1
    rows = read_metrics(tmp_path / "run")
    assert sys.modules["watch_of_test"].rows == rows
    assert [row["loss"] for row in rows if "loss" in row] == [
        row["loss"] for row in read_metrics(finished) if "loss" in row
    ]
    assert_identical(params_at(tmp_path / "run", 6), params_at(finished, 6))
    for spec, sentence in (
        ("watch_of_test", "give MODULE:FUNCTION"),
        ("watch_of_test:none", "has no function none"),
        ("no_such_module:log", "ModuleNotFoundError"),
    ):
        assert train(tmp_path / "other", trace=[f"--on-metrics={spec}"]) == 2
        error = capsys.readouterr().err
        assert f"--on-metrics={spec}: " in error
        assert sentence in error
        assert not (tmp_path / "other").exists()


def test_the_latest_and_the_best_checkpoints_are_kept(finished):
    checkpoints = Checkpoints(finished, read_only=True)
    try:
        steps = checkpoints.steps()
        assert steps[-2:] == [4, 6]
        vals = {row["step"]: row["val_far_0.01"] for row in read_metrics(finished) if row.get("val_far_0.01")}
        best = max((vals.get(3, -1.0), 3), (vals.get(6, -1.0), 6))[1]  # nothing is saved before the first step
        assert checkpoints.best_or_latest() == best
        assert best in steps
        assert checkpoints.config(6)["loss.margin"] == 0.2
    finally:
        checkpoints.close()


def test_a_finished_run_prints_its_table_again(finished, capsys):
    capsys.readouterr()
    assert train(finished, "--config.eval.every=3", "--config.data.workers=2") == 0
    out = capsys.readouterr().out
    assert "finished" in out
    assert "VAL" in out


def test_a_run_with_more_steps_ends_like_one_long_run(finished, tmp_path, capsys):
    shorter = tmp_path / "shorter"
    assert train(shorter, "--config.steps=3", "--config.data.cache=none") == 0
    assert "decoded for each batch" in capsys.readouterr().err
    rows = [row | {"spread": 100.0} for row in read_metrics(shorter)]
    (shorter / METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "collapsing" not in capsys.readouterr().err
    kept = ("--config.data.cache=device",)
    assert train(shorter, "--config.steps=6", "--config.checkpoint.every=5", "--config.data.workers=1", *kept) == 0
    error = capsys.readouterr().err
    assert "kept on every device" in error
    assert "from step 3 of 6" in error
    assert "the spread of the embeddings fell from 1.0e+02" in error  # compared with the spread before the restart
    assert_identical(params_at(shorter, 6), params_at(finished, 6))


def test_a_batch_size_that_was_not_given_follows_the_faces(photos, tmp_path, capsys):
    album, run = tmp_path / "album", tmp_path / "run"
    shutil.copytree(photos, album)
    asked = [option for option in TINY if not option.startswith(("--config.batch.size=", "--config.batch.random"))]
    command = ["train", "--config=quickstart", f"--workdir={run}", *asked, f"--config.data.path={album}"]
    assert main([*command, "--config.steps=2"]) == 0
    said = capsys.readouterr().err
    size = json.loads((run / "run.json").read_text())["config"]["batch.size"]
    assert 36 <= size < 64
    assert f"of {size} faces" in said
    assert "--config.batch.size and --config.batch.random_negatives" in said
    assert main([*command[:-1], "--config.data.path=gone", "--config.steps=2"]) == 0  # nothing is read
    assert "finished" in capsys.readouterr().out
    assert main([*command, "--config.steps=3"]) == 0
    assert "from step 2 of 3" in capsys.readouterr().err
    assert main([*command, "--config.steps=3", f"--config.batch.size={size + 1}"]) == 2
    assert f"config.batch.size: {size} -> {size + 1}" in capsys.readouterr().err
    shutil.copy(album / "person 00" / "0.png", album / "person 00" / "more.png")
    assert main([*command, "--config.steps=4"]) == 2
    assert "other faces" in capsys.readouterr().err
    assert main([*command[:2], f"--workdir={tmp_path / 'new'}", *command[3:], "--config.batch.size=180"]) == 2
    assert "--config.batch.size=" in capsys.readouterr().err


def test_another_config_is_refused_with_the_difference(finished, capsys):
    assert train(finished, "--config.loss.margin=0.3", "--config.batch.size=16") == 2
    error = capsys.readouterr().err
    assert "config.loss.margin: 0.2 -> 0.3" in error
    assert "config.batch.size: 18 -> 16" in error


def test_steps_cannot_change_if_the_schedule_depends_on_them(tmp_path, capsys):
    falling = "--config.optimizer.finalise_steps=2"
    assert train(tmp_path / "run", "--config.steps=3", falling) == 0
    assert train(tmp_path / "run", "--config.steps=4", falling) == 2
    assert "config.steps: 3 -> 4" in capsys.readouterr().err


def test_a_run_of_an_older_version_keeps_its_schedule(tmp_path, capsys):
    own = {"warmup_steps": 1, "finalise_steps": 2}
    (tmp_path / "own.py").write_text(
        "from facenet_jax.config import load_config\n\n\ndef get_config():\n    config = load_config('quickstart')\n"
        f"    config.steps = 4\n    config.optimizer.update({own})\n    return config\n"
    )
    tiny = [one for one in TINY if not one.startswith(("--config.steps=", "--config.optimizer."))]
    run, whole = tmp_path / "run", tmp_path / "whole"
    command = ["train", f"--config={tmp_path / 'own.py'}", *tiny, "--config.steps=6"]
    as_then = [f"--config.optimizer.{key}={value}" for key, value in own.items()]  # of 6 steps now 1 and 3
    assert main([*command, *as_then, f"--workdir={whole}"]) == 0
    shutil.copytree(whole, run)
    shutil.rmtree(run / "checkpoints" / "6")
    (run / "report.json").unlink()
    capsys.readouterr()
    assert main([*command, f"--workdir={run}"]) == 0
    said = capsys.readouterr().err
    assert "--config.optimizer.warmup_steps=1 and --config.optimizer.finalise_steps=2; a new run of 6 steps" in said
    assert "from step 4 of 6" in said
    assert json.loads((run / "run.json").read_text())["config"]["optimizer.finalise_steps"] == 2
    assert_identical(params_at(run, 6), params_at(whole, 6))
    assert main([*command, f"--workdir={run}"]) == 0
    assert "this run is finished" in capsys.readouterr().out
    for others, said in (
        (["--config.steps=8"], "config.steps: 6 -> 8"),
        (["--config.optimizer.finalise_steps=3"], "config.optimizer.finalise_steps: 2 -> 3"),
    ):
        assert main([*command, *others, f"--workdir={run}"]) == 2
        assert said in capsys.readouterr().err


def test_photographs_can_be_trained_on_and_moved(photos, tmp_path, capsys):
    workdir, overrides = tmp_path / "run", ["--config.eval.holdout=0.3", "--config.batch.size=12"]
    assert train(workdir, f"--config.data.path={photos}", "--config.steps=2", *overrides) == 0
    moved = tmp_path / "moved"
    moved.symlink_to(photos)
    assert train(workdir, f"--config.data.path={moved}", "--config.steps=4", *overrides) == 0
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for person in sorted(photos.iterdir())[1:]:
        (fewer / person.name).symlink_to(person)
    capsys.readouterr()
    assert train(workdir, f"--config.data.path={fewer}", "--config.steps=5", *overrides) == 2
    assert "other faces" in capsys.readouterr().err


def test_init_from_starts_with_another_runs_parameters(finished, tmp_path, capsys):
    tuned = tmp_path / "tuned"
    assert train(tuned, f"--config.init_from={finished}", "--config.steps=1") == 0
    before = max(row["val_far_0.01"] for row in read_metrics(finished) if row["step"] in (3, 6) and "loss" not in row)
    assert read_metrics(tuned)[0]["val_far_0.01"] == before
    assert train(tmp_path / "no", f"--config.init_from={tmp_path}") == 2
    assert "not the working directory of a run" in capsys.readouterr().err
    assert train(tmp_path / "no", f"--config.init_from={finished}", "--config.model.embedding_size=128") == 2
    assert "another network" in capsys.readouterr().err


def test_with_averaged_parameters_the_average_is_evaluated(finished, tmp_path, capsys):
    averaged, judged = tmp_path / "averaged", tmp_path / "judged"
    options = ["--config.optimizer.weight_average=0.99", "--config.checkpoint.every=1", "--config.eval.every=3"]
    assert train(averaged, *options) == 0
    losses = [[row["loss"] for row in read_metrics(path) if "loss" in row] for path in (averaged, finished)]
    np.testing.assert_allclose(*losses, rtol=1e-5)  # averaging does not change the steps
    before, after, params = params_at(averaged, 5), params_at(averaged, 6), params_at(finished, 6)
    want = jax.tree.map(lambda average, new: (average * 6 + new * 9) / 15, before, params)  # (1 + 5) / (10 + 5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after, want)

    capsys.readouterr()
    assert main(["evaluate", "holdout", f"--embedder={averaged}", "--step=6", f"--out={judged}"]) == 0
    found = json.loads((judged / "holdout.json").read_text())["embedders"][0]["result"]
    own, plain = (json.loads((path / "report.json").read_text())["holdout"] for path in (averaged, finished))
    threshold, of_own, of_plain = (result["rates"][0]["threshold"] for result in (found, own, plain))
    assert threshold == pytest.approx(of_own, rel=1e-3)
    assert threshold != pytest.approx(of_plain, rel=0.1)
    tuned = tmp_path / "tuned"
    assert train(tuned, f"--config.init_from={averaged}", "--config.steps=1", options[0]) == 0
    best = max(row["val_far_0.01"] for row in read_metrics(averaged) if row["step"] in (3, 6) and "loss" not in row)
    assert read_metrics(tuned)[0]["val_far_0.01"] == best
    assert train(averaged, *options[1:]) == 2
    assert "config.optimizer.weight_average: 0.99 -> 0.0" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "at"), [(signal.SIGINT, 3), (signal.SIGTERM, 6)])
def test_after_a_signal_the_run_is_saved_and_resumes(number, at, finished, tmp_path, capsys, monkeypatch):
    workdir, seen = tmp_path / "run", []

    def interrupt(values, step):
        seen.append(step)
        if step == at and len(seen) == at:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(step_log, "check_finite", interrupt)
    options = ("--config.checkpoint.every=100", "--config.eval.every=3")  # asked to stop when an evaluation is due
    assert train(workdir, *options) == 128 + number
    assert f"step {at} is saved" in capsys.readouterr().err
    assert train(workdir, *options) == 0
    assert_identical(params_at(workdir, 6), params_at(finished, 6))
    rows = read_metrics(workdir)
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "loss" not in row] == [0, 3, 6]
    said = {row["step"]: row["val_far_0.01"] for row in rows if "loss" not in row and row["step"]}
    assert vals_of(workdir) == pytest.approx(said, rel=1e-5)
    assert json.loads((workdir / "report.json").read_text())["step"] == 6


@pytest.fixture
def measured(monkeypatch):
    """A function that lets another one see, or change, what each step measured on the devices."""

    def set_to(change):
        add, steps = Figures.add, itertools.count(1)
        monkeypatch.setattr(Figures, "add", lambda self, measured: add(self, change(next(steps), measured)))

    return set_to


@pytest.mark.parametrize("every", [1, 3, 100])
@pytest.mark.parametrize("figure", ["loss", "gradient_norm"])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    figure, every, tmp_path, capsys, measured
):
    workdir = tmp_path / "run"
    measured(lambda step, found: found._replace(**{figure: found.loss / 0}) if step in (4, 5) else found)
    assert train(workdir, f"--config.log.every={every}") == 1  # noticed before step 4 is saved, even if not logged
    assert f"the {figure.replace('_', ' ')} is not finite at step 4" in capsys.readouterr().err
    checkpoints = Checkpoints(workdir, read_only=True)
    assert checkpoints.steps() == [2]
    checkpoints.close()


def test_a_bad_step_is_named_when_metrics_are_next_logged(tmp_path, capsys, measured):
    measured(lambda step, found: found._replace(loss=found.loss * np.nan) if step >= 4 else found)
    assert train(tmp_path / "run", "--config.log.every=6", "--config.checkpoint.every=100") == 1
    assert "the loss is not finite at step 4" in capsys.readouterr().err
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))


def test_a_collapse_is_reported_with_its_step(tmp_path, capsys, measured):
    def collapsed(step, found):
        return found._replace(
            triplets=found.triplets._replace(spread=found.triplets.spread * (0.01 if step > 3 else 1))
        )

    measured(collapsed)
    assert train(tmp_path / "run", "--config.log.every=6", "--config.checkpoint.every=100") == 0
    error = capsys.readouterr().err
    assert "at step 4 the embedding is collapsing" in error
    assert error.count("is collapsing") == 1


def test_nothing_is_copied_to_the_host_between_log_lines(tmp_path, monkeypatch, measured):
    """On a GPU the loop's transfer guard would end the run; on a CPU each access to an array's value is counted."""
    events = []
    value = ArrayImpl._value

    def looked(array):
        if threading.current_thread() is threading.main_thread() and events:
            events.append("look")
        return value.fget(array)

    def step_sent(step, found):
        events.append(step)
        return found

    monkeypatch.setattr(ArrayImpl, "_value", property(looked))
    measured(step_sent)
    save = Checkpoints.save

    def saved(self, *arguments):
        save(self, *arguments)
        while events[-1] == "look":
            events.pop()
        events.append("saved")

    monkeypatch.setattr(Checkpoints, "save", saved)
    assert train(tmp_path / "run", "--config.log.every=4", "--config.checkpoint.every=6", "--config.steps=10") == 0
    ends = events.index(10)
    assert events[:ends] == [1, "look", 2, 3, 4, "look", 5, 6, "saved", 7, 8, "look", 9]
    assert [row["step"] for row in read_metrics(tmp_path / "run") if "loss" in row] == [1, 4, 8, 10]


def test_at_most_two_steps_are_in_flight(finished, tmp_path, monkeypatch, measured):
    ready = []

    def seen(step, found):
        ready.append(found.loss)
        assert all(loss.is_ready() for loss in ready[:-2])
        return found

    measured(seen)
    assert train(tmp_path / "run", "--config.log.every=100", "--config.checkpoint.every=100") == 0
    assert len(ready) == 6
    assert_identical(params_at(tmp_path / "run", 6), params_at(finished, 6))


def test_metrics_after_the_checkpoint_are_cut_off(finished, tmp_path):
    workdir = tmp_path / "run"
    assert train(workdir, "--config.steps=2") == 0
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 9.0}\n{"step": 4, "lo')
    assert train(workdir, "--config.steps=4") == 0
    rows = [row for row in read_metrics(workdir) if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[2]["loss"] < 1


def damage(workdir, step):
    for file in (workdir / "checkpoints" / str(step) / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def test_an_unreachable_checkpoint_is_not_treated_as_damaged(finished, tmp_path, capsys, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)

    def restore(self, step, target):
        raise OSError(errno.ESTALE, "Stale file handle", "checkpoints/6")

    monkeypatch.setattr(Checkpoints, "_restore", restore)
    assert train(workdir, "--config.eval.every=3", "--config.steps=8") == 1
    assert "Stale file handle: checkpoints/6; what was saved before is kept" in capsys.readouterr().err
    assert not (workdir / "damaged_checkpoints").exists()


def test_a_checkpoint_of_another_run_is_refused(finished, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    file = workdir / "checkpoints" / "6" / "config" / "metadata"
    saved = json.loads(file.read_text())
    file.write_text(json.dumps(saved | {"seed": saved["seed"] + 1}))
    capsys.readouterr()
    assert train(workdir, "--config.eval.every=3", "--config.steps=7") == 2
    error = capsys.readouterr().err
    assert "the checkpoint of step 6" in error
    assert "was saved by a run with another config" in error
    assert "config.seed: 1 -> 0" in error


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(finished, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert train(workdir, "--config.steps=4") == 0
    damage(workdir, 4)
    capsys.readouterr()
    assert train(workdir, "--config.steps=6") == 0
    error = capsys.readouterr().err
    assert "checkpoints/4 cannot be read" in error
    assert "from step 2 of 6" in error
    assert (workdir / "damaged_checkpoints" / "4").is_dir()
    assert_identical(params_at(workdir, 4), params_at(finished, 4))
    assert_identical(params_at(workdir, 6), params_at(finished, 6))
    for step in (4, 6):
        damage(workdir, step)
    capsys.readouterr()
    assert train(workdir, "--config.steps=7") == 2
    assert "none of the checkpoints" in capsys.readouterr().err


def test_eight_devices_train_and_one_measures(finished, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert train(workdir, "--config.mesh.data=8", "--config.steps=4") == 0
    losses = [[row["loss"] for row in read_metrics(run) if "loss" in row][:4] for run in (workdir, finished)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert "last digits" not in capsys.readouterr().err
    assert train(workdir, "--config.mesh.data=1", "--config.batch.chunk=9", "--config.steps=5") == 0
    error = capsys.readouterr().err
    assert "from step 4 of 5" in error
    assert "figures         can differ in the last digits from here on" in error
    assert main(["evaluate", "holdout", f"--embedder={workdir}", "--step=4"]) == 0


def test_bad_photographs_are_counted_listed_and_skipped(photos, tmp_path, capsys):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    for person in sorted(folder.iterdir()):
        person.rename(folder / person.name.replace("person", "trained on"))
    bad = folder / "trained on 00" / "0.png"
    bad.write_bytes(bad.read_bytes()[:300])
    overrides = [f"--config.data.path={folder}", f"--config.eval.path={photos}", "--config.batch.size=12"]
    assert train(tmp_path / "run", *overrides, "--config.steps=12") == 0
    assert (tmp_path / "run" / "bad_files.txt").read_text().splitlines() == [f"{bad}\ttruncated"]
    for file in sorted(folder.rglob("*.jpg"))[:10]:
        file.write_bytes(b"not an image")
    capsys.readouterr()
    assert train(tmp_path / "worse", *overrides) == 2
    assert "cannot be decoded, more than the 5% allowed" in capsys.readouterr().err


def test_training_faces_cannot_be_evaluated_on(photos, tmp_path, capsys):
    overrides = [f"--config.data.path={photos}", f"--config.eval.path={photos}", "--config.batch.size=12"]
    assert train(tmp_path / "run", *overrides) == 2
    assert "the very faces that are trained on" in capsys.readouterr().err


def test_evaluate_holdout_measures_a_finished_run(finished, photos, tmp_path, capsys):
    assert main(["evaluate", "holdout", f"--embedder={finished}", "--step=6"]) == 0
    out = capsys.readouterr().out
    table = json.loads((finished / "report.json").read_text())["table"]
    assert out.splitlines()[3] in table
    assert main(["evaluate", "holdout", f"--embedder={finished}", f"--data={photos}", f"--out={tmp_path}/out"]) == 0
    document = json.loads((tmp_path / "out" / "holdout.json").read_text())
    assert document["embedders"][0]["result"]["identities"] == 12
    assert main(["evaluate", "holdout", f"--embedder={finished}", "--step=5"]) == 2
    assert "no checkpoint of step 5" in capsys.readouterr().err
