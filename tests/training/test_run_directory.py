"""A working directory holds one run with one config, and one process trains in it at a time."""

import json

import pytest

from facenet_jax.config import default_config, flatten
from facenet_jax.errors import InputError
from facenet_jax.training.run_directory import RUN_FILE, RunDirectory, finished_report, read_run

CONFIG = json.loads(json.dumps(flatten(default_config())))
DIGESTS = {"train": "a", "held_out": "b"}


@pytest.fixture
def directory(tmp_path):
    directory = RunDirectory(tmp_path / "runs" / "one")
    directory.begin(CONFIG, DIGESTS, "c")
    yield directory
    directory.close()


def test_a_run_is_read_back_and_may_resume(directory):
    assert read_run(directory.path) == {"config": CONFIG, "digests": DIGESTS, "program": "c"}
    directory.check(CONFIG, DIGESTS)
    directory.check(CONFIG | {"data.workers": 9, "deterministic": True, "mesh.data": 1, "data.path": "moved"}, DIGESTS)


@pytest.mark.parametrize(
    ("config", "digests", "words"),
    [
        ({"loss.margin": 0.3}, {}, "config.loss.margin: 0.2 -> 0.3"),
        ({"model.input_size": [96, 96]}, {}, r"config.model.input_size: \[224, 224\] -> \[96, 96\]"),
        ({}, {"train": "c"}, "other faces than those of drawn"),
        ({}, {"held_out": "c"}, "evaluated on other faces"),
    ],
)
def test_another_run_is_refused(directory, config, digests, words):
    with pytest.raises(InputError, match=words):
        directory.check(CONFIG | config, DIGESTS | digests)


def test_two_processes_do_not_train_in_one_directory(directory):
    with pytest.raises(InputError, match="another process is training"):
        RunDirectory(directory.path)
    directory.close()
    RunDirectory(directory.path).close()


def test_a_damaged_run_file_is_named(directory):
    (directory.path / RUN_FILE).write_text("{")
    with pytest.raises(InputError, match=r"run\.json cannot be read"):
        read_run(directory.path)
    for other in ("[]", "7", '{"config": {}}'):
        (directory.path / RUN_FILE).write_text(other)
        with pytest.raises(InputError, match=r"run\.json is not the config of a run"):
            read_run(directory.path)


@pytest.mark.parametrize("report", ["{", "[]", "{}", '{"step": "x", "table": ""}', '{"step": 9}'])
def test_a_malformed_report_is_ignored(report, tmp_path):
    (tmp_path / "report.json").write_text(report)
    assert finished_report(tmp_path, 9) is None
