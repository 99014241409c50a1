"""`reproduce` and `networks`: the people set aside, input refused before any training, and resuming."""

import json
import os
from pathlib import Path

import pytest

from benchmarks import networks, reproduce
from benchmarks.ending import Ended, exit_code
from benchmarks.recipe_runs import Task, judge, seen, train
from benchmarks.set_aside import chosen_people, set_aside
from facenet_jax.datasets.exclude import read_list
from facenet_jax.datasets.open import open_dataset
from facenet_jax.errors import InputError
from facenet_jax.sweeps.launchers import Runner
from preparing import crowd, prepared


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """36 people with six faces, one of them damaged; one name has two words, and one is not UTF-8."""
    root = crowd(tmp_path_factory.mktemp("faces") / "photos", 36, 6)
    (root / "000").rename(root / "Ada Lovelace")
    os.rename(root / "001", os.fsencode(root) + b"/caf\xe9")
    for person in root.iterdir():
        (person / "notes.txt").write_text("no face")
        (person / "0.png").write_bytes(b"torn")
    return root


class Recorder:
    """Stands in for a Runner: records the commands, and ends each with a code."""

    def __init__(self, code=0):
        self.commands, self.code, self.asked = [], code, None

    def __call__(self, command):
        self.commands.append(command.words)
        return self.code


def runs_leave(monkeypatch, images_per_second, batch=360):
    """Makes every run appear to have left one row of metrics, and this size of its batch."""
    row = {"step": 30, "images_per_second": images_per_second}
    monkeypatch.setattr("benchmarks.recipe_runs.read_metrics", lambda folder: [row])
    monkeypatch.setattr("benchmarks.recipe_runs.read_run", lambda folder: {"config": {"batch.size": batch}})


def task_of(photos, out, run, **values):
    return Task(
        **{"data": photos, "out": out, "minutes": 1.0, "config": "recipe_cpu", "overrides": [], "lfw": None} | values,
        run=run,
    )


def begin(task):
    """Enters and leaves a task; what it found stays in its attributes."""
    with task:
        pass


def put_aside(data, out):
    source = open_dataset(data)
    return set_aside(source, chosen_people(source), out)


def test_the_same_people_are_set_aside_and_only_faces_that_can_be_decoded(photos, tmp_path):
    aside = put_aside(photos, tmp_path)
    names = read_list(aside.names, "reserved")
    assert len(names) == aside.people == 12
    assert names == {person.name for person in aside.folder.iterdir()} <= {person.name for person in photos.iterdir()}
    assert aside.bad == 12  # one torn face each
    assert all(len(list(person.iterdir())) == 5 for person in aside.folder.iterdir())
    assert {"Ada Lovelace", os.fsdecode(b"caf\xe9")} <= {person.name for person in photos.iterdir()}
    (aside.folder / "somebody else").mkdir()
    assert put_aside(photos, tmp_path) == aside
    assert names == {person.name for person in aside.folder.iterdir()}


def test_of_a_prepared_dataset_faces_are_copied(photos, tmp_path, capsys):
    prepared(photos, tmp_path / "set")
    aside = put_aside(tmp_path / "set", tmp_path / "out")
    assert aside.people == 12
    source = open_dataset(aside.folder)
    assert source.index.records == 12 * 5
    assert source.load(0, (16, 16)).shape == (16, 16, 3)
    assert read_list(aside.names, "reserved") <= set(open_dataset(tmp_path / "set").index.names)


def test_people_of_a_prepared_dataset_are_not_judged_under_a_name_that_another_has(tmp_path, capsys):
    photos = crowd(tmp_path / "photos", 30, 5)
    for place, person in enumerate(sorted(photos.iterdir())):
        person.rename(photos / (f"{place:04d}" if place < 15 else f"set-aside-{place - 15:04d}"))
    prepared(photos, tmp_path / "set")
    aside = put_aside(tmp_path / "set", tmp_path / "out")
    judged = open_dataset(aside.folder).index.names
    assert len(judged) == aside.people == 10
    assert not set(judged) & set(open_dataset(tmp_path / "set").index.names)


def test_too_few_people(tmp_path):
    with pytest.raises(InputError, match=r"5 identities with 5 faces; 6 are needed"):
        chosen_people(open_dataset(crowd(tmp_path / "few", 5, 5)))
    assert len(chosen_people(open_dataset(crowd(tmp_path / "album", 20, 5)))) == 6


def run_main(module, capsys, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["benchmark", *map(str, arguments)])
    code = exit_code("benchmark", module.main)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seeds=0,x"], "--seeds=0,x"),
        (["--seeds=0,"], "--seeds=0,"),
        (["--seeds=1,1"], "each once"),
        (["--seeds=-1"], "--seeds=-1"),
        (["--minutes=0"], "--minutes=0"),
        (["--minutes=nan"], "--minutes=nan"),
        (["--peers"], "--peers: not understood"),
        (["--config.nets=4"], "config.nets"),
        (["--config.steps=4"], "config.steps is chosen here"),
        (["--config.eval.path=photos"], "config.eval.path is chosen here"),
        (["--config=nothing"], "nothing"),
        (["--lfw=nowhere"], "aligned112"),
        (["--data=nowhere"], "does not exist"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_written(options, said, photos, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    code, error = run_main(reproduce, capsys, monkeypatch, f"--data={photos}", f"--out={out}", *options)
    assert code == 2
    assert error.startswith("benchmark: ")
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_an_unknown_network(photos, tmp_path, capsys, monkeypatch):
    code, error = run_main(networks, capsys, monkeypatch, f"--data={photos}", "--networks=nns2, nn5")
    assert (code, "there is no 'nn5'" in error) == (2, True)
    code, error = run_main(networks, capsys, monkeypatch, f"--data={photos}", "--config.model.name=nn4")
    assert (code, "give --networks" in error) == (2, True)
    code, error = run_main(networks, capsys, monkeypatch, f"--data={photos}", "--steps=1")
    assert (code, "--steps=1: give a number above 1" in error) == (2, True)
    options = (f"--data={photos}", f"--out={tmp_path / 'out'}", "--config.model.embedding_size=0")
    code, error = run_main(networks, capsys, monkeypatch, *options)
    assert (code, "an embedding of size 0" in error, (tmp_path / "out").exists()) == (2, True, False)
    code, error = run_main(networks, capsys, monkeypatch, f"--data={photos}", "--config.steps=4")
    assert (code, "config.steps is chosen here" in error) == (2, True)
    assert networks.chosen("nn2, nns2,nn4") == ["nns2", "nn4", "nn2"]


def test_a_folder_of_other_runs_is_refused(photos, tmp_path):
    out = tmp_path / "out"
    begin(task_of(photos, out, Recorder()))
    reserved = sorted(person.name for person in (out / "reserved").iterdir())
    begin(task_of(photos, out, Recorder()))  # the same command again resumes
    for values, said in (
        ({"minutes": 2.0}, "runs with minutes 1.0"),
        ({"overrides": ["--config.batch.size=90"]}, r"runs with overrides \[\]"),
        ({"data": crowd(tmp_path / "others", 36, 5)}, "runs with other faces"),
    ):
        with pytest.raises(InputError, match=said):
            begin(task_of(photos, out, Recorder(), **values))
    assert sorted(person.name for person in (out / "reserved").iterdir()) == reserved
    with pytest.raises(InputError, match="holds other things"):
        begin(task_of(photos, photos, Recorder()))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; give a folder"):
        begin(task_of(photos, tmp_path / "file", Recorder()))


def test_a_named_recipe_is_another_task_than_one_chosen_by_the_minutes(photos, tmp_path):
    begin(task_of(photos, tmp_path, Recorder(), own_steps=True))
    with pytest.raises(InputError, match="runs with config recipe_cpu, no more than its own steps; give another --out"):
        begin(task_of(photos, tmp_path, Recorder()))


def test_two_commands_do_not_share_a_folder(photos, tmp_path):
    with (
        task_of(photos, tmp_path, Recorder()),
        pytest.raises(InputError, match="another process is at work"),
    ):
        begin(task_of(photos, tmp_path, Recorder()))
    begin(task_of(photos, tmp_path, Recorder()))


def test_people_who_are_set_aside_already_are_left_in_place(photos, tmp_path):
    aside = put_aside(photos, tmp_path)
    before = aside.folder.stat()
    assert put_aside(photos, tmp_path) == aside
    assert (aside.folder.stat().st_ino, aside.folder.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    next(next(aside.folder.iterdir()).iterdir()).unlink()
    put_aside(photos, tmp_path)
    assert sum(len(list(person.iterdir())) for person in aside.folder.iterdir()) == 12 * 5
    assert {path.name for path in tmp_path.iterdir()} == {"reserved", "reserved.txt"}


def test_steps_fit_into_the_minutes_and_the_schedule_keeps_its_shares(photos, tmp_path, monkeypatch):
    run = Recorder()
    task = task_of(photos, tmp_path / "out", run, minutes=2.0, overrides=["--config.batch.random_negatives=30"])
    begin(task)
    runs_leave(monkeypatch, images_per_second=180.0)
    assert train(task, task.out, 3, more=["--config.model.name=nn4"]) == task.out / "recipe-3"
    trials, last = run.commands[:-1], run.commands[-1]
    # 180 images a second are half a batch of the recipe: of the second trial's minute only 30 steps are taken.
    assert [next(word for word in words if "config.steps" in word) for words in trials] == [
        "--config.steps=4",
        "--config.steps=30",
    ]
    # An earlier checkpoint would be written during the timed steps.
    assert "--config.checkpoint.every=4" in trials[0]
    assert "--config.checkpoint.every=30" in trials[1]
    expected = {
        "steps": 60,
        "optimizer.warmup_steps": 3,
        "optimizer.finalise_steps": 30,
        "checkpoint.every": 6,
        "seed": 3,
    }
    assert {f"--config.{key}={value}" for key, value in expected.items()} <= set(last)
    assert last.index("--config.model.name=nn4") < last.index("--config.batch.random_negatives=30")
    train(task, task.out, 4)
    assert len(run.commands) == 4  # the trial's answer is kept
    assert not any("recipe_cpu_long" in word for words in run.commands for word in words)
    assert seen(task.out) == {"images": 30 * 360, "images_per_second": 180.0, "minutes": 1.0}


def test_more_steps_of_an_album_fit_since_its_batches_are_smaller(photos, tmp_path, monkeypatch):
    run = Recorder()
    task = task_of(photos, tmp_path / "out", run, minutes=2.0)
    begin(task)
    runs_leave(monkeypatch, images_per_second=180.0, batch=90)
    train(task, task.out, 0)
    assert "--config.steps=240" in run.commands[-1]
    assert not any(word.startswith("--config.batch.") for words in run.commands for word in words)
    assert seen(task.out) == {"images": 30 * 90, "images_per_second": 180.0, "minutes": 0.25}


def test_steps_that_are_given_need_no_trial(photos, tmp_path):
    run = Recorder()
    task = task_of(photos, tmp_path / "out", run, steps=448)
    begin(task)
    assert train(task, task.out, 0) == task.out / "recipe-0"
    (last,) = run.commands
    expected = {"steps": 448, "optimizer.warmup_steps": 22, "optimizer.finalise_steps": 224, "checkpoint.every": 44}
    assert {f"--config.{key}={value}" for key, value in expected.items()} <= set(last)
    begin(task_of(photos, tmp_path / "out", run, steps=448, minutes=7.0))  # minutes are ignored then
    for values in ({"steps": 449}, {}):
        with pytest.raises(InputError, match=r"runs with steps 448; give another --out"):
            begin(task_of(photos, tmp_path / "out", run, **values))
    begin(task_of(photos, tmp_path / "minutes", run))
    with pytest.raises(InputError, match=r"runs with minutes 1\.0; give another --out"):
        begin(task_of(photos, tmp_path / "minutes", run, steps=448))


@pytest.mark.parametrize(
    ("minutes", "faces", "own_steps", "steps"),
    [
        (30.0, 1, True, 900),
        (57.0, 1, True, 1_120),
        (57.0, 1, False, 1_710),
        (57.0, 2, True, 1_710),
        (200.0, 2, True, 2_240),
    ],
)
def test_a_recipe_that_would_overfit_takes_no_more_than_its_own_steps(
    minutes, faces, own_steps, steps, photos, tmp_path, monkeypatch, capsys
):
    run = Recorder()
    task = task_of(photos, tmp_path / "out", run, minutes=minutes, own_steps=own_steps)
    begin(task)
    runs_leave(monkeypatch, images_per_second=180.0)
    monkeypatch.setattr("benchmarks.recipe_runs._FACES", task.source.index.records // faces)
    train(task, task.out, 0)
    assert f"--config.steps={steps}" in run.commands[-1]  # 1,120 are the recipe's own; of twice the faces, 2,240
    assert (f"{steps:,} steps of {int(minutes * 30):,} that fit" in capsys.readouterr().err) == (steps < minutes * 30)
    assert f"--config.optimizer.finalise_steps={steps // 2}" in run.commands[-1]
    before = len(run.commands)
    train(task, task.out, 1)  # without another trial
    assert len(run.commands) == before + 1
    assert f"--config.steps={steps}" in run.commands[-1]


def test_the_current_faces_are_judged(photos, tmp_path):
    rates = [{"far": 0.01, "val": 0.3, "standard_error": 0.02}, {"far": 0.001, "val": None, "standard_error": None}]
    document = json.dumps({"embedders": [{"result": {"rates": rates}}]})

    class Evaluates(Recorder):
        """Writes as `evaluate` does: next to the result of other faces, if there is one."""

        def __call__(self, command):
            out = next(Path(word.removeprefix("--out=")) for word in command.words if word.startswith("--out="))
            out.mkdir(parents=True, exist_ok=True)
            (out / ("holdout-2.json" if (out / "holdout.json").exists() else "holdout.json")).write_text(document)
            return super().__call__(command)

    run = Evaluates()
    task = task_of(photos, tmp_path / "out", run)
    begin(task)
    expected = {"val_far_0.01": 0.3, "standard_errors": {"val_far_0.01": 0.02}}
    assert judge(task, "recipe-0", task.out, None) == judge(task, "recipe-0", task.out, None) == expected
    document = json.dumps(
        {
            "embedders": [
                {
                    "result": {
                        "rates": [*rates, {"far": 0.0025, "val": 0.2, "standard_error": None}],
                        "smallest_far": 0.0025,
                        "area": 0.9,
                        "equal_error_rate": 0.1,
                    }
                }
            ]
        }
    )
    errors = {"val_far_0.01": 0.02, "val_far_0.0025": None}
    few = {"val_far_0.01": 0.3, "val_far_0.0025": 0.2, "area": 0.9, "equal_error_rate": 0.1, "standard_errors": errors}
    assert judge(task, "album", task.out, None) == few
    run.commands.pop()
    # Both are evaluated: the peer may have been trained again or LFW repaired, and `evaluate` caches embeddings itself.
    assert len(run.commands) == 2
    assert [file.name for file in (task.out / "judged" / "recipe-0").iterdir()] == ["holdout.json"]
    document = "{"
    with pytest.raises(InputError, match=r"holdout\.json is damaged"):
        judge(task, "recipe-0", task.out, None)


def test_a_failed_child_and_a_request_to_stop_give_the_exit_code(photos, tmp_path, capsys):
    task = task_of(photos, tmp_path / "out", Recorder(code=2))
    begin(task)
    with pytest.raises(Ended):
        train(task, task.out, 0)
    assert exit_code("reproduce", lambda: train(task, task.out, 0)) == 2
    task.run = Recorder()
    task.run.asked = 15
    assert exit_code("reproduce", lambda: task.facenet("train")) == 143
    assert "the same command resumes" in capsys.readouterr().err


def test_the_peer_is_not_trained_on_judged_people_and_not_trained_twice(photos, tmp_path):
    run = Recorder()
    task = task_of(photos, tmp_path / "out", run)
    begin(task)
    made = reproduce.yardstick(task, tmp_path / "python", "processor", 0)
    job = json.loads((made / "job.json").read_text())
    aside = read_list(task.aside.names, "reserved")
    people = {os.path.basename(os.path.dirname(file)) for files in job["train"] for file in files}
    assert people == {person.name for person in photos.iterdir()} - aside
    assert len(job["judged"]["reserved"]) == len(job["names"]["reserved"]) == 12 * 5
    assert job["minutes"] == [0.25, 0.5, 0.75, 1.0]
    (made / "done.json").write_text(json.dumps({"clock": "processor", "judged": ["reserved"], "marks": []}))
    reproduce.yardstick(task, tmp_path / "python", "processor", 0)
    assert len(run.commands) == 1
    with pytest.raises(InputError, match="--clock=wall"):
        reproduce.yardstick(task, tmp_path / "python", "wall", 0)


def test_the_peer_is_not_judged_by_people_it_may_have_been_trained_on(photos, tmp_path):
    lfw = tmp_path / "lfw"
    (lfw / "aligned112").mkdir(parents=True)
    for name, people in (("pairsDevTrain.txt", "002 003"), ("pairsDevTest.txt", "Ada_Lovelace Nobody")):
        one, other = people.split()
        (lfw / name).write_text(f"1\n{one}\t1\t2\n{one}\t1\t{other}\t1\n")
    task = task_of(photos, tmp_path / "out", Recorder(), lfw=lfw)
    begin(task)
    reproduce.refuse_namesakes(task)  # nobody is called so with an underscore
    (lfw / "pairsDevTest.txt").write_text("1\n002\t1\t2\n002\t1\tNobody\t1\n")
    with pytest.raises(InputError, match=r"1 people of LFW's test pairs .* such as 002"):
        reproduce.refuse_namesakes(task)


def test_tables():
    one = {"minutes": 9.96, "images": 1000, "val_far_0.01": 0.3, "standard_errors": {"val_far_0.01": 0.02}}
    text = reproduce.table({"recipe": [one, one | {"val_far_0.01": 0.4}], "PyTorch": [one]})
    assert "| recipe | 2 | 10.0 | 1,000 | 35.0% (30.0% to 40.0%) |" in text
    assert "| PyTorch | 1 | 10.0 | 1,000 | 30.0% ± 2.0 |" in text
    few = {"minutes": 1.0, "images": 9, "val_far_0.0025": 0.2, "area": 0.9, "standard_errors": {"val_far_0.0025": None}}
    lines = reproduce.table({"recipe": [few], "PyTorch": [one]}).splitlines()
    assert "| VAL at FAR 1e-2 | VAL at FAR 0.0025 | area under the ROC curve |" in lines[0]
    assert lines[2].endswith("| - | 20.0% | 90.0% |")
    assert lines[3].endswith("| 30.0% ± 2.0 | - | - |")
    row = one | {"input_size": (96, 96), "parameters": 4, "multiply_adds": 5, "images_per_second": 6.0}
    rows = [
        {"network": "nn1", "failed": 1},
        row | {"network": "nn4", "collapsed": True, "val_far_0.01": 0.5},
        row | {"network": "nns1", "collapsed": False, "val_far_0.01": 0.2},
        row | {"network": "nns2", "collapsed": False},
    ]
    lines = networks.table(rows).splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == ["NNS2", "NNS1", "NN4, collapsed", "NN1"]
    assert "failed: exit code 1" in lines[-1]


def test_the_page_shows_the_judged_networks(photos, tmp_path):
    run = Recorder()
    task = task_of(photos, tmp_path / "out", run)
    networks.report(task, [{"network": "nn1", "failed": 1}], "448 steps each")
    assert run.commands == []
    networks.report(task, [{"network": "nn1", "failed": 1}, {"network": "nns2"}, {"network": "nn4"}], "448 steps each")
    (words,) = run.commands
    start = words.index("report")
    assert words[start + 1 : start + 3] == [str(task.out / "judged" / name) for name in ("nns2", "nn4")]
    assert {"--no-images", "--title=448 steps each", f"--output={task.out / 'networks.html'}"} == set(
        words[start + 3 :]
    )


def test_a_collapse_is_detected(tmp_path):
    for name, spreads in (("fell", [0.2, 0.5, 0.004]), ("rose", [0.2, 0.1, 0.9])):
        (tmp_path / name).mkdir()
        lines = [json.dumps({"step": step, "spread": spread}) for step, spread in enumerate(spreads)]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert [networks.collapsed(tmp_path / name) for name in ("fell", "rose")] == [True, False]


def test_a_real_runner_passes_codes_on(photos, tmp_path):
    with Runner() as run:
        task = task_of(photos, tmp_path / "out", run)
        task.start(["true"])
        with pytest.raises(Ended) as ended:
            task.start(["sh", "-c", "exit 7"])
    assert ended.value.code == 7
