"""The configuration of a run: one documented default, and what is checked before anything starts.

A file in configs/ starts from `default_config()` and says only what differs.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from facenet_jax.errors import InputError


def default_config() -> ConfigDict:
    """FaceNet as the paper trains it: NN2, batches of 1,800, AdaGrad at 0.05. Units and sources beside each value."""
    config = ConfigDict()
    config.seed = 0  # of parameters, batches, augmentation: a run is a function of it
    config.steps = 500_000  # optimiser steps in all
    config.init_from = ""  # a working directory whose parameters this run starts from (fine-tuning)

    config.model = ConfigDict()
    config.model.name = "nn2"  # nn1, nn2, nn3, nn4, nns1, nns2
    config.model.input_size = (224, 224)  # rows, columns of pixels
    config.model.embedding_size = 128  # section 5.3; Table 5 tries 64 to 512
    config.model.dtype = "float32"  # of the network's arithmetic: float32, bfloat16; parameters are float32
    config.model.five_by_five = ""  # NN2 to NN4: modules with a 5x5 branch, all, lower or none; empty: as in the paper
    # What keeps activations in range: response as in the paper, or weight in its place (see models.layers).
    config.model.norm = "response"

    config.data = ConfigDict()
    config.data.path = "drawn"  # a folder <identity>/<image>, a prepared dataset, or `drawn`: made-up faces
    # Datasets that are trained on in place of data.path, each with its weight: (("photos", 3), ("drawn", 1)).
    config.data.mixture = ()
    config.data.min_faces = 1  # identities with fewer faces are left out, as negatives too
    config.data.max_faces = 0  # of an identity at most so many faces are used, spread over all of its own; 0: all
    config.data.exclude = ""  # a text file of identities and faces (identity/image) to leave out, one a line
    config.data.workers = 2  # processes that decode; 0 decodes in this one; the batches do not depend on it
    config.data.flip = True  # mirror a face every other time
    # Random changes to each face, by strengths from 0 (off) to 0.95; see facenet_jax.images.change.
    config.data.augment = ConfigDict()
    config.data.augment.zoom = 0.0  # nearer or farther by up to this share of the sides, and moved by up to half of it
    config.data.augment.rotate = 0.0  # turned by up to this share of a right angle
    config.data.augment.brightness = 0.0  # times a factor up to this far from 1, as the next two
    config.data.augment.contrast = 0.0
    config.data.augment.saturation = 0.0
    config.data.augment.downsample = 0.0  # sides up to this share smaller, and enlarged again
    config.data.augment.jpeg = 0.0  # encoded again at a quality up to 100 times this below 100
    config.data.augment.erase = 0.0  # a rectangle of up to this share of the area is filled with a colour
    config.data.max_bad_share = 0.05  # of faces that cannot be decoded, before the run stops
    config.data.drawn = ConfigDict()
    config.data.drawn.identities = 10_000  # drawn people to train on
    config.data.drawn.faces_per_identity = 40
    config.data.drawn.seed = 0  # which people: independent of config.seed

    config.batch = ConfigDict()
    config.batch.size = 1800  # faces in a global batch (section 3.2)
    config.batch.faces_per_identity = 40  # quota of an identity in a batch (section 3.2)
    config.batch.min_faces_per_identity = 2  # identities with fewer give no anchors, random negatives alone
    config.batch.random_negatives = 200  # faces of a batch drawn from everybody (section 3.2)
    config.batch.chunk = 0  # faces that the network takes at once on a device; 0: all. Saves memory, same gradient
    config.batch.rematerialise = False  # keep less of the network between its two passes: some memory for some time

    config.loss = ConfigDict()
    config.loss.margin = 0.2  # alpha of equation (1), in squared distance
    config.loss.divide_by = "pairs"  # pairs, active, one: see facenet_jax.triplets.loss
    config.loss.positives = "all"  # all, hardest: see facenet_jax.triplets.selection, as for the next two
    config.loss.negatives = "semi_hard"  # semi_hard (equation 3), hardest, random_semi_hard
    config.loss.no_semi_hard = "skip"  # what becomes of a pair without such a negative: skip, farthest
    # A curriculum: ((from_step, positives, negatives, margin), ...), each in force once so many steps have been taken.
    config.loss.stages = ()

    # Offline selection (section 3.2): every so many steps the latest parameters find hard faces, for later batches.
    config.offline = ConfigDict()
    config.offline.every = 0  # steps between tables of hard faces; 0: none is made. Before the first, all is online
    config.offline.mode = "mixed"  # mixed: part of each batch, selection online; alone: the table's own triplets
    config.offline.share = 0.5  # mixed: the share of a batch, random negatives aside, that comes from the table
    config.offline.faces = 20_000  # faces that a table is made from: those of the batches to come
    config.offline.positives = 1  # hardest positives of an anchor that the table holds
    config.offline.negatives = 5  # nearest negatives

    config.optimizer = ConfigDict()
    config.optimizer.name = "adagrad"  # adagrad, as in section 3.3; adam
    config.optimizer.learning_rate = 0.05  # AdaGrad's, section 3.3; Adam wants less, such as 0.001
    config.optimizer.initial_accumulator = 0.1  # what AdaGrad's sum of squared gradients starts at
    config.optimizer.warmup_steps = 0  # the rate rises from 0 over so many steps
    config.optimizer.finalise_steps = 0  # over the last so many steps the rate falls ("which we lower to finalize")
    config.optimizer.final_learning_rate = 0.0005  # what it falls to
    # What a running average of the parameters keeps of itself in a step, such as 0.99: less at first (see
    # facenet_jax.training.optimizer). It is the average that is then measured, embedded with and exported. 0: none.
    config.optimizer.weight_average = 0.0

    config.eval = ConfigDict()
    config.eval.every = 1000  # steps between evaluations; 0: only before the first step and after the last
    config.eval.path = ""  # a folder of identities never trained on; empty: a share of data.path is set aside
    config.eval.holdout = 0.1  # that share of the identities with two faces or more
    config.eval.max_faces_per_identity = 40  # of held-out faces looked at
    config.eval.drawn_identities = 200  # held-out people where the faces are drawn
    config.eval.batch = 256  # faces embedded at once on all devices

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 500  # steps between checkpoints; one is saved after each evaluation too
    config.checkpoint.keep = 2  # the latest so many, and the best

    config.log = ConfigDict()
    config.log.every = 10  # steps between lines of metrics

    config.mesh = ConfigDict()
    config.mesh.data = 0  # devices over which the batch is divided, for each of mesh.fsdp; 0: as many as there are
    config.mesh.fsdp = 1  # devices that share one copy of the parameters and the optimiser's sums, for large networks
    return config


_STRENGTHS = tuple(f"data.augment.{name}" for name in default_config().data.augment)
_AT_LEAST: dict[str, float] = {
    **dict.fromkeys(_STRENGTHS, 0),
    "seed": 0,
    "data.drawn.seed": 0,
    "data.max_bad_share": 0,
    "data.min_faces": 1,
    "data.max_faces": 0,
    "steps": 1,
    "data.workers": 0,
    "data.drawn.identities": 2,
    "data.drawn.faces_per_identity": 2,
    "batch.size": 4,
    "batch.faces_per_identity": 2,
    "batch.min_faces_per_identity": 2,
    "batch.random_negatives": 0,
    "batch.chunk": 0,
    "offline.every": 0,
    "offline.faces": 4,
    "offline.positives": 1,
    "offline.negatives": 1,
    "optimizer.warmup_steps": 0,
    "optimizer.finalise_steps": 0,
    "optimizer.final_learning_rate": 0,
    "optimizer.initial_accumulator": 0,
    "optimizer.weight_average": 0,
    "eval.every": 0,
    "eval.max_faces_per_identity": 2,
    "eval.drawn_identities": 2,
    "eval.batch": 1,
    "checkpoint.every": 1,
    "checkpoint.keep": 1,
    "log.every": 1,
    "mesh.data": 0,
    "mesh.fsdp": 1,
}
_BETWEEN: dict[str, tuple[float, float]] = {  # both ends excluded
    "loss.margin": (0.0, 4.0),
    "offline.share": (0.0, 1.0),
    "optimizer.learning_rate": (0.0, 100.0),
    "eval.holdout": (0.0, 1.0),
}
_AT_MOST: dict[str, float] = {
    **dict.fromkeys(_STRENGTHS, 0.95),
    "optimizer.weight_average": 0.99999,
    "seed": 2**31 - 1,
    "data.drawn.seed": 2**31 - 1,
    "data.drawn.identities": 10**9,
    "data.max_bad_share": 1,
}
_ONE_OF: dict[str, tuple[str, ...]] = {
    "model.dtype": ("float32", "bfloat16"),
    "model.norm": ("response", "weight"),
    "loss.divide_by": ("pairs", "active", "one"),
    "loss.positives": ("all", "hardest"),
    "loss.negatives": ("semi_hard", "hardest", "random_semi_hard"),
    "loss.no_semi_hard": ("skip", "farthest"),
    "offline.mode": ("mixed", "alone"),
    "optimizer.name": ("adagrad", "adam"),
}


def validate(config: ConfigDict) -> None:
    """Checks ranges and combinations.

    Raises:
      InputError: naming the first value that is out of range.
    """
    values = flatten(config)
    for key, default in flatten(default_config()).items():
        if key not in values:
            raise InputError(f"config.{key} is missing; start the config from facenet_jax.config.default_config().")
        if isinstance(default, tuple) != isinstance(values[key], tuple):
            raise InputError(f"config.{key} is {values[key]!r}; a tuple such as {default} is needed.")
    for key, lowest in _AT_LEAST.items():
        if not values[key] >= lowest:  # so that NaN is caught
            raise InputError(f"config.{key} is {values[key]}; it must be at least {lowest:g}.")
    for key, highest in _AT_MOST.items():
        if not values[key] <= highest:
            raise InputError(f"config.{key} is {values[key]}; it must be at most {highest:,}.")
    for key, (low, high) in _BETWEEN.items():
        if not low < values[key] < high:
            raise InputError(f"config.{key} is {values[key]}; it must lie between {low:g} and {high:g}.")
    for key, names in _ONE_OF.items():
        if values[key] not in names:
            raise InputError(f"config.{key} is {values[key]!r}; it must be one of {', '.join(names)}.")
    _validate_stages(values["loss.stages"])
    _validate_mixture(values["data.mixture"])
    if values["data.max_faces"] == 1:
        raise InputError("config.data.max_faces is 1, but an anchor needs a positive; raise it to at least 2, or to 0.")
    size = values["model.input_size"]
    if len(size) != 2 or not all(type(n) is int and 1 <= n <= 4096 for n in size):
        raise InputError(f"config.model.input_size is {size}; two numbers, rows and columns of pixels, are needed.")
    if values["batch.random_negatives"] >= values["batch.size"]:
        raise InputError(
            f"config.batch.random_negatives is {values['batch.random_negatives']}, the whole batch of "
            f"{values['batch.size']}; lower it, so that faces with a positive are left."
        )
    if values["optimizer.finalise_steps"] + values["optimizer.warmup_steps"] > values["steps"]:
        raise InputError(
            "config.optimizer.warmup_steps and finalise_steps are more than config.steps together; lower one of them."
        )
    rate, final = values["optimizer.learning_rate"], values["optimizer.final_learning_rate"]
    if values["optimizer.finalise_steps"] and final > rate:
        raise InputError(
            f"config.optimizer.final_learning_rate is {final:g}, above the learning_rate of {rate:g}, and the rate "
            "would rise over the last finalise_steps; lower it."
        )


def datasets_of(config: ConfigDict | Mapping[str, Any]) -> list[tuple[str, float]]:
    """(path, weight) of what a config, or a flattened one, trains on: of `data.mixture`, or `data.path` alone."""
    return [(path, weight) for path, weight in config["data.mixture"]] or [(config["data.path"], 1.0)]


def _validate_mixture(mixture: tuple[Any, ...]) -> None:
    for pair in mixture:
        right = isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)
        if not right or not isinstance(pair[1], int | float) or not 1e-3 <= pair[1] <= 1e3:
            raise InputError(
                f"config.data.mixture holds {pair!r}; (path, weight) with a weight from 0.001 to 1000 is needed."
            )
    paths = [path for path, _ in mixture]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"config.data.mixture names {path} twice; give it once, with both weights together.")


def _validate_stages(stages: tuple[Any, ...]) -> None:
    before = 0
    for stage in stages:
        wrong = f"config.loss.stages holds {stage!r};"
        if not isinstance(stage, tuple | list) or len(stage) != 4 or type(stage[0]) is not int:
            raise InputError(f"{wrong} (from_step, positives, negatives, margin) is needed.")
        from_step, positives, negatives, margin = stage
        if from_step <= before:
            raise InputError(f"{wrong} its step must come after {before}, where the stage before it begins.")
        before = from_step
        for key, name in (("loss.positives", positives), ("loss.negatives", negatives)):
            if name not in _ONE_OF[key]:
                raise InputError(f"{wrong} {name!r} must be one of {', '.join(_ONE_OF[key])}.")
        low, high = _BETWEEN["loss.margin"]
        if not isinstance(margin, int | float) or not low < margin < high:
            raise InputError(f"{wrong} its margin must be a number between {low:g} and {high:g}.")


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """The values under dotted keys: {"loss.margin": 0.2, ...}."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            values.update(flatten(value, f"{prefix}{key}."))
        else:
            values[f"{prefix}{key}"] = value
    return values


def config_folders() -> list[Path]:
    """Where configs are looked for by name: the repository's configs/, or the copy inside the installed package."""
    package = Path(__file__).resolve().parent
    return [folder for folder in (package / "configs", package.parents[1] / "configs") if folder.is_dir()]


def find_config(name: str) -> Path:
    """The config file meant by a path, or by a bare name such as `nn1`.

    Raises:
      InputError: there is none; names the nearest.
    """
    path = Path(name)
    try:
        if path.is_file():
            return path
    except OSError as error:  # a name too long, a folder that may not be entered
        raise InputError(f"--config={name}: cannot be read ({error.strerror}); give another file.") from error
    known = {file.stem: file for folder in config_folders() for file in sorted(folder.glob("*.py"))}
    if path.name == name and path.stem in known and path.suffix in ("", ".py"):
        return known[path.stem]
    nearest = difflib.get_close_matches(path.stem, known, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise InputError(f"--config={name}: there is no such config; {hint}There are {', '.join(sorted(known))}.")


def load_config(name: str, overrides: list[str]) -> ConfigDict:
    """Loads a config file and applies overrides.

    Args:
      name: a path to a config file, or the bare name of one that comes with the package.
      overrides: `--config.loss.margin=0.1`, and so on.

    Raises:
      InputError: no such file, an unknown key (naming the nearest), a value of the wrong type or out of range.
    """
    path = find_config(name)
    config = _get_config(path)
    keys = list(flatten(config))
    last: dict[str, str] = {}
    for override in overrides:
        key, equals, _ = override.removeprefix("--").removeprefix("config.").partition("=")
        if not override.startswith("--config.") or not equals:
            raise InputError(f"{override}: not understood; overrides are written --config.loss.margin=0.1.")
        if key not in keys:
            nearest = difflib.get_close_matches(key, keys, n=1, cutoff=0.0)[0]
            raise InputError(f"config.{key}: there is no such key in {path.name}; did you mean config.{nearest}?")
        last[key] = override  # a key given twice has its last value; absl would join two tuples into one
    values = flags.FlagValues()
    arguments = ["facenet-jax", *last.values()]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
    try:
        values(arguments)
    except (flags.Error, TypeError, ValueError) as error:
        raise InputError(f"{_first_line(error)}; give a value of the key's type.") from error
    validate(config)
    config.lock()
    return config


def _get_config(path: Path) -> ConfigDict:
    """Runs a config file's get_config, so that what is wrong in the file is told as such."""
    spec = importlib.util.spec_from_file_location(f"facenet_jax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"--config={path}: not a Python file; configs end in .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:
        raise InputError(f"--config={path}: {type(error).__name__}: {_first_line(error)}; mend the file.") from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"--config={path}: get_config() returned no ConfigDict; start it from default_config().")
    return config


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
