"""Configs: the six networks, names, overrides, and refused values."""

import pytest

from facenet_jax import models
from facenet_jax.config import MAY_CHANGE, default_config, difference, find_config, flatten, load_config, validate
from facenet_jax.config.saved import REMOVED
from facenet_jax.errors import InputError


@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_a_networks_config_is_the_paper(name):
    config = load_config(name, [])
    assert config.model.name == name
    assert tuple(config.model.input_size) == models.NETWORKS[name].input_size
    assert (config.batch.size, config.batch.faces_per_identity, config.batch.random_negatives) == (1800, 40, 200)
    assert (config.loss.margin, config.optimizer.learning_rate) == (0.2, 0.05)


@pytest.mark.parametrize("file", sorted(find_config("nn1").parent.glob("*.py")), ids=lambda file: file.stem)
def test_every_config_is_valid_and_names_its_command(file):
    load_config(str(file), [])
    assert f"facenet-jax train --config=configs/{file.name}" in file.read_text()


def test_overrides_keep_the_type_of_their_key():
    config = load_config("nn4", ["--config.loss.margin=1", "--config.model.input_size=(64, 48)", "--config.seed=7"])
    assert (config.loss.margin, tuple(config.model.input_size), config.seed) == (1.0, (64, 48), 7)
    twice = load_config("nn4", ["--config.model.input_size=(64, 48)", "--config.model.input_size=(32, 32)"])
    assert tuple(twice.model.input_size) == (32, 32)
    with pytest.raises(AttributeError):
        config.loss.marign = 0.3  # locked


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("nn1", ["--config.los.margin=0.1"], "did you mean config.loss.margin?"),
        ("nn1", ["--config.marg=0.1"], "did you mean config.loss.margin?"),
        ("nnn4", [], "did you mean nn4?"),
        ("no/such/file.py", [], "there is no such config"),
        ("nn1", ["--config.loss.margin=wide"], "config.loss.margin=wide"),
        ("nn1", ["--config.steps=1.5"], "config.steps=1.5"),
        ("nn1", ["--config.data.flip=maybe"], "config.data.flip=maybe"),
        ("nn1", ["--config.loss.margin"], "written --config.loss.margin=0.1"),
        ("nn1", ["stray"], "stray: not understood"),
        ("nn1", ["--config.loss.margin=nan"], "between 0 and 4"),
        ("nn1", ["--config.loss.margin=-1"], "between 0 and 4"),
        ("nn1", ["--config.optimizer.weight_average=1"], "at most 0.99999"),
        ("nn1", ["--config.optimizer.weight_average=nan"], "at least 0"),
        ("nn1", ["--config.batch.size=3"], "at least 4"),
        ("nn1", ["--config.batch.random_negatives=1800"], "the whole batch"),
        ("nn1", ["--config.model.input_size=(96,)"], "rows and columns"),
        ("nn1", ["--config.model.input_size=(96, 'a')"], "rows and columns"),
        ("nn1", ["--config.loss.divide_by=mean"], "one of pairs, active, one"),
        ("nn1", ["--config.loss.negatives=easy"], "one of semi_hard, hardest, random_semi_hard"),
        ("nn1", ["--config.loss.stages=((10, 'hardest', 0.2),)"], "(from_step, positives, negatives, margin)"),
        ("nn1", ["--config.loss.stages=(10, 'all', 'hardest', 0.2)"], "(from_step, positives, negatives, margin)"),
        ("nn1", ["--config.loss.stages=((0, 'all', 'hardest', 0.2),)"], "must come after 0"),
        ("nn1", ["--config.loss.stages=((9, 'all', 'easy', 0.2),)"], "one of semi_hard, hardest, random_semi_hard"),
        ("nn1", ["--config.loss.stages=((9, 'all', 'hardest', 4.0),)"], "between 0 and 4"),
        ("nn1", ["--config.data.mixture=(('photos', 1), 'drawn')"], "'drawn'; (path, weight)"),
        ("nn1", ["--config.data.mixture=(('photos', 0), ('drawn', 1))"], "('photos', 0); (path, weight)"),
        ("nn1", ["--config.data.mixture=(('photos', 1), ('photos', 2))"], "names photos twice"),
        ("nn1", ["--config.data.max_faces=10"], "config.data.max_faces: this option is gone"),
        ("nn1", ["--config.data.min_faces=0"], "config.data.min_faces is 0"),
        ("nn1", ["--config.steps=5", "--config.optimizer.finalise_steps=6"], "lower one of them"),
        ("nn1", ["--config.optimizer.finalise_steps=6", "--config.optimizer.learning_rate=0.0003"], "0.0005, above"),
    ],
)
def test_mistakes_are_refused_in_one_sentence(name, overrides, words):
    with pytest.raises(InputError) as error:
        load_config(name, overrides)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(): return 3", "no ConfigDict"),
        ("raise RuntimeError('on purpose')", "RuntimeError: on purpose"),
        ("x = 1", "get_config"),
        (
            "from facenet_jax.config import default_config\n"
            "def get_config():\n    config = default_config()\n    del config.loss.margin\n    return config",
            "config.loss.margin is missing",
        ),
    ],
)
def test_a_broken_config_file_is_refused(text, words, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        load_config(str(file), [])


def test_a_curriculum_is_read_from_the_command_line():
    stages = "((100, 'all', 'semi_hard', 0.1), (200, 'hardest', 'hardest', 0.3))"
    config = load_config("nn1", [f"--config.loss.stages={stages}"])
    assert config.loss.stages == ((100, "all", "semi_hard", 0.1), (200, "hardest", "hardest", 0.3))


def test_the_folders_of_a_mixture_may_move_but_its_weights_may_not_change():
    one, other = default_config(), default_config()
    one.data.mixture, other.data.mixture = (("a", 1), ("b", 2)), (("c", 1), ("d", 2))
    assert difference(flatten(one), flatten(other)) == []
    other.data.mixture = (("a", 1), ("b", 3))
    assert difference(flatten(one), flatten(other)) == ["config.data.mixture: [1, 2] -> [1, 3]"]


def test_the_difference_names_what_may_not_change():
    before = flatten(default_config())
    config = default_config()
    config.loss.margin = 0.3
    config.steps = 10
    config.data.workers = 7
    config.data.path = "elsewhere"
    config.data.exclude = "names.txt"
    assert difference(before, flatten(config)) == ["config.loss.margin: 0.2 -> 0.3"]
    config.optimizer.finalise_steps = 5
    assert [line.split(":")[0] for line in difference(before, flatten(config))] == [
        "config.loss.margin",
        "config.optimizer.finalise_steps",
        "config.steps",
    ]


def test_a_run_with_an_option_that_was_removed_resumes_if_it_had_the_default():
    now = flatten(default_config())
    assert difference(now | REMOVED, now) == []
    assert not set(REMOVED) & set(now)
    with pytest.raises(InputError, match=r"begun with config\.data\.augment\.jpeg=0\.3, an option that is gone"):
        difference(now | REMOVED | {"data.augment.jpeg": 0.3}, now)


def test_what_may_change_exists():
    assert set(MAY_CHANGE) <= set(flatten(default_config()))


def test_the_default_is_valid():
    validate(default_config())


def test_a_run_from_before_a_key_existed_had_its_default():
    now = flatten(default_config())
    before = {key: value for key, value in now.items() if key != "model.norm"}
    assert difference(before, now) == []
    assert difference(before, now | {"model.norm": "weight"}) == ["config.model.norm: response -> weight"]


@pytest.mark.parametrize(
    ("name", "overrides", "warmup", "finalise"),
    [
        ("quickstart", [], 0, 400),
        ("quickstart", ["--config.steps=100"], 0, 33),
        ("recipe_cpu", [], 56, 560),
        ("recipe_cpu", ["--config.steps=1120"], 56, 560),
        ("recipe_cpu", ["--config.steps=100"], 5, 50),
        ("recipe_cpu", ["--config.steps=2240"], 112, 1120),
        ("recipe_cpu", ["--config.steps=1"], 0, 0),
        ("recipe_cpu", ["--config.steps=100", "--config.optimizer.warmup_steps=7"], 7, 50),
        ("recipe_cpu", ["--config.steps=100", "--config.optimizer.finalise_steps=0"], 56, 0),
        ("recipe_cpu_long", ["--config.steps=40"], 56, 0),  # it can resume with more steps, at the same rates
        ("recipe_gpu", ["--config.steps=2000"], 560, 0),
    ],
)
def test_a_shorter_run_needs_only_its_steps(name, overrides, warmup, finalise):
    config = load_config(name, overrides)
    assert (config.optimizer.warmup_steps, config.optimizer.finalise_steps) == (warmup, finalise)
