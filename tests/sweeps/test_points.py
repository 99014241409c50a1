"""A sweep's file: its points, and mistakes that are refused before any point runs."""

import shlex

import pytest

from facenet_jax.config import load_config
from facenet_jax.errors import InputError
from facenet_jax.sweeps.points import Point, load_sweep, sweep_files

EXPECTED = {"choices", "embedding_size", "learning_rate", "networks", "training_images", "triplets"}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_sweep_asks_a_question_and_has_configs_that_load(name):
    assert set(sweep_files()) == EXPECTED
    sweep = load_sweep(name, "quickstart", ["--config.steps=400"])
    assert sweep.question.endswith("?")
    assert f"facenet-jax sweep {name}" in sweep_files()[name].read_text()
    assert set(sweep.paper) <= {point.name for point in sweep.points}
    configs = [load_config("quickstart", sweep.arguments(point)) for point in sweep.points]
    assert all(config.steps == 400 for config in configs)
    for point, config in zip(sweep.points, configs, strict=True):
        for key, value in point.overrides.items():
            found = config
            for part in key.split("."):
                found = found[part]
            assert found == value
            assert isinstance(found, type(value))


def test_arguments_stay_one_word_each():
    point = Point("a", {"model.input_size": (96, 64), "loss.stages": ((5, "all", "hardest", 0.2),)})
    assert all(" " not in argument for argument in point.arguments)
    config = load_config("quickstart", shlex.split(shlex.join(point.arguments)))
    assert tuple(config.model.input_size) == (96, 64)
    assert config.loss.stages == ((5, "all", "hardest", 0.2),)


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("def points(base):\n    yield 'a', {}", [], "begins with a docstring"),
        ("'''Why?'''\ndef points(base):\n    yield from ()", [], "begins with a docstring"),
        ("'''Why?'''\ndef points(base):\n    yield 'a/b', {}", [], "names become folders"),
        ("'''Why?'''\ndef points(base):\n    yield 'a', {}\n    yield 'a', {}", [], "each once"),
        (
            "'''Why?'''\ndef points(base):\n    yield 'a', {'los.margin': 1}",
            [],
            "point a of the sweep why: .*did you mean",
        ),
        ("'''Why?'''\ndef points(base):\n    yield 'a', {'loss.margin': 9}", [], "point a .*must lie between 0 and 4"),
        ("'''Why?'''\ndef points(base):\n    yield 'a', {'seed': 1}", ["--config.seed=2"], "the sweep why varies"),
        ("'''Why?'''\ndef points(base):\n    yield base.nothing, {}", [], "points.base. ended in AttributeError"),
        ("'''Why?'''\nimport nothing_such", [], "ModuleNotFoundError"),
        ("'''Why?'''\n", [], "defines no points"),
    ],
)
def test_mistakes_in_a_file_are_refused(tmp_path, text, overrides, words):
    file = tmp_path / "why.py"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        load_sweep(str(file), "quickstart", overrides)


def test_unknown_sweeps_and_unsuitable_data_are_refused():
    with pytest.raises(InputError, match="did you mean embedding_size"):
        load_sweep("embeding_size", "quickstart", [])
    with pytest.raises(InputError, match="draws its faces"):
        load_sweep("training_images", "quickstart", ["--config.data.path=photos"])
