"""The table of config keys: default, meaning with its unit, range or choices, and source in the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from facenet_jax.errors import InputError


class Between(NamedTuple):
    """A range of numbers; its ends are excluded, except where `closed`."""

    low: float
    high: float = math.inf
    closed: bool = False

    def __str__(self) -> str:
        if not self.closed:
            return f"between {self.low:g} and {self.high:g}"
        return f"at least {self.low:g}" + (f", at most {self.high:,}" if self.high < math.inf else "")


def _from(low: float, to: float = math.inf) -> Between:
    return Between(low, to, closed=True)


@dataclass(frozen=True)
class Key:
    """One value of a config.

    Attributes:
      name: dotted, as after `--config.` on the command line.
      default: FaceNet as the paper trains it; its type is the type of every value.
      meaning: what it sets, with its unit.
      allowed: a range or the choices; None where any value of the type will do, or more is checked elsewhere.
      source: the place in the paper.
    """

    name: str
    default: Any
    meaning: str
    allowed: Between | tuple[str, ...] | None = None
    source: str = ""

    def check(self, value: Any) -> None:
        """Raises InputError where a value is out of range or not among the choices."""
        said = f"config.{self.name} is {value};"
        if isinstance(self.default, tuple) != isinstance(value, tuple):
            raise InputError(f"config.{self.name} is {value!r}; a tuple such as {self.default} is needed.")
        if isinstance(self.allowed, Between):
            low, high, closed = self.allowed
            if closed and not value >= low:  # so that NaN is caught
                raise InputError(f"{said} it must be at least {low:g}.")
            if closed and not value <= high:
                raise InputError(f"{said} it must be at most {high:,}.")
            if not closed and not low < value < high:
                raise InputError(f"{said} it must lie {self.allowed}.")
        elif self.allowed and value not in self.allowed:
            raise InputError(f"config.{self.name} is {value!r}; it must be one of {', '.join(self.allowed)}.")

    def __str__(self) -> str:
        """The meaning, what is allowed and the source, in one line."""
        allowed = str(self.allowed or "")
        if self.allowed and not isinstance(self.allowed, Between):
            allowed = f"one of {', '.join(self.allowed)}"
        return "; ".join(filter(None, (self.meaning, allowed))) + (f" ({self.source})" if self.source else "")


_SEED = _from(0, to=2**31 - 1)
_STRENGTH = _from(0, to=0.95)
_MARGIN = Between(0, 4)
_POSITIVES = ("all", "hardest")
_NEGATIVES = ("semi_hard", "hardest", "random_semi_hard")

KEYS: tuple[Key, ...] = (
    Key("seed", 0, "of parameters, batches and augmentation: a run is a function of it", _SEED),
    Key("deterministic", False, "on a GPU: kernels that give the same bits in every process, for a slower step"),
    Key("steps", 500_000, "optimiser steps in all", _from(1)),
    Key("init_from", "", "a working directory whose parameters this run starts from (fine-tuning)"),
    Key("compatible_with", "", "an older run, onnx:FILE, sface or file of embeddings, to be comparable with its points",
        None, "arXiv 1503.03832, appendix A"),
    # The network.
    Key("model.name", "nn2", "nn1, nn2, nn3, nn4, nns1 or nns2", None, "Table 3"),
    Key("model.input_size", (224, 224), "rows and columns of pixels", None, "Tables 1 and 2"),
    Key("model.embedding_size", 128, "dimensions of an embedding, 64 to 512", None, "section 5.3, Table 5"),
    Key("model.dtype", "float32", "of the network's arithmetic; parameters are float32", ("float32", "bfloat16")),
    Key("model.five_by_five", "", "NN2 to NN4: modules with a 5x5 branch: all, lower or none; empty: as in the paper"),
    Key("model.norm", "response", "what keeps activations in range: response as in the paper, or weight in its place",
        ("response", "weight"), "Tables 1 and 2"),
    Key("model.members", 1, "networks side by side, each with its own triplets and an equal share of the embedding",
        _from(1)),
    # The faces.
    Key("data.path", "drawn", "a folder <identity>/<image>, a prepared dataset, or drawn: made-up faces"),
    Key("data.mixture", (), "datasets in place of data.path, each with its weight: (('photos', 3), ('drawn', 1))"),
    Key("data.min_faces", 1, "identities with fewer faces are left out, as negatives too", _from(1)),
    Key("data.exclude", "", "a text file of identities and faces (identity/image) to leave out, one a line"),
    Key("data.workers", 2, "processes that decode; 0: this one does; batches do not depend on it", _from(0)),
    Key("data.cache", "auto", "where decoded faces are kept: nowhere, in memory, on every device, by the room there is",
        ("auto", "none", "host", "device")),
    Key("data.flip", True, "mirror a face every other time"),
    Key("data.augment.zoom", 0.0, "nearer or farther by up to this share of the sides, moved by up to half", _STRENGTH),
    Key("data.augment.rotate", 0.0, "turned by up to this share of a right angle", _STRENGTH),
    Key("data.augment.brightness", 0.0, "all values times a factor up to this far from 1", _STRENGTH),
    Key("data.augment.contrast", 0.0, "distance from the face's mean grey, times such a factor", _STRENGTH),
    Key("data.augment.saturation", 0.0, "distance from a pixel's own grey, times such a factor", _STRENGTH),
    Key("data.augment.erase", 0.0, "a rectangle of up to this share of the area is filled with a colour", _STRENGTH),
    Key("data.max_bad_share", 0.05, "of faces that cannot be decoded, before the run stops", _from(0, to=1)),
    Key("data.drawn.identities", 10_000, "drawn people to train on", _from(2, to=10**9)),
    Key("data.drawn.faces_per_identity", 40, "faces of a drawn person", _from(2)),
    Key("data.drawn.seed", 0, "which people are drawn: independent of seed", _SEED),
    # The batch.
    Key("batch.size", 1800, "faces in a global batch", _from(4), "section 3.2"),
    Key("batch.faces_per_identity", 40, "quota of an identity in a batch", _from(2), "section 3.2"),
    Key("batch.min_faces_per_identity", 2, "identities with fewer faces give random negatives alone", _from(2)),
    Key("batch.random_negatives", 200, "faces of a batch drawn from all faces", _from(0), "section 3.2"),
    Key("batch.chunk", 0, "faces that the network takes at once on a device: less memory, same gradient; 0: all",
        _from(0)),
    Key("batch.rematerialise", False, "keep less of the network between its two passes: less memory, more time"),
    # The triplets and their loss: see facenet_jax.triplets.
    Key("loss.margin", 0.2, "alpha, in squared distance", _MARGIN, "equation (1)"),
    Key("loss.divide_by", "pairs", "what the sum over triplets is divided by", ("pairs", "active", "one")),
    Key("loss.positives", "all", "the positives of an anchor", _POSITIVES, "section 3.2"),
    Key("loss.negatives", "semi_hard", "the negative of a pair", _NEGATIVES, "section 3.2, equation (3)"),
    Key("loss.no_semi_hard", "skip", "what becomes of a pair without a semi-hard negative", ("skip", "farthest")),
    Key("loss.stages", (), "a curriculum: ((from_step, positives, negatives, margin), ...), each from that step on"),
    Key("loss.compatible_weight", 1.0, "share of the loss that mixes old points in, where there is a compatible_with",
        _from(0.001, to=1), "arXiv 1503.03832, appendix A"),
    # Offline selection: at intervals the latest parameters find hard faces, for later batches.
    Key("offline.every", 0, "steps between tables of hard faces; 0: none; before the first, selection is online",
        _from(0), "section 3.2"),
    Key("offline.mode", "mixed", "mixed: half of each batch, selection online; alone: the table's own triplets",
        ("mixed", "alone"), "section 3.2"),
    Key("offline.faces", 20_000, "faces, of batches to come, that a table is made from", _from(4), "section 3.2"),
    # The optimiser.
    Key("optimizer.name", "adagrad", "the rule of the update", ("adagrad", "adam"), "section 3.3"),
    Key("optimizer.learning_rate", 0.05, "AdaGrad's; Adam needs less, such as 0.001", Between(0, 100), "section 3.3"),
    Key("optimizer.initial_accumulator", 0.1, "what AdaGrad's sum of squared gradients starts at", _from(0)),
    Key("optimizer.warmup_steps", 0, "steps over which the rate rises from 0", _from(0)),
    Key("optimizer.finalise_steps", 0, 'last steps, over which the rate falls ("which we lower to finalize")', _from(0),
        "section 3.3"),
    Key("optimizer.final_learning_rate", 0.0005, "what the rate falls to", _from(0)),
    # The average keeps less of itself at first: see facenet_jax.training.optimizer.
    Key("optimizer.weight_average", 0.0, "share of itself that a running average of the parameters keeps in a step, "
        "such as 0.99; the average is then measured, embedded with and exported; 0: none", _from(0, to=0.99999)),
    # Evaluation, checkpoints, metrics.
    Key("eval.every", 1000, "steps between evaluations; 0: only before the first step and after the last", _from(0)),
    Key("eval.path", "", "a folder of identities never trained on; empty: a share of data.path is held out"),
    Key("eval.holdout", 0.1, "that share, of the identities with two faces or more", Between(0, 1)),
    Key("eval.max_faces_per_identity", 40, "held-out faces of an identity that are used", _from(2)),
    Key("eval.drawn_identities", 200, "held-out people where the faces are drawn", _from(2)),
    Key("eval.batch", 256, "faces embedded at once on all devices", _from(1)),
    Key("checkpoint.every", 500, "steps between checkpoints; one is saved after each evaluation too", _from(1)),
    Key("checkpoint.keep", 2, "the latest checkpoints that are kept, besides the best", _from(1)),
    Key("log.every", 10, "steps between lines of metrics", _from(1)),
    # The devices.
    Key("mesh.data", 0, "devices that divide the batch, for each of mesh.fsdp; 0: as many as there are", _from(0)),
    Key("mesh.fsdp", 1, "devices that share one copy of parameters and optimiser's sums, for large networks", _from(1)),
)  # fmt: skip


def default_config() -> ConfigDict:
    """FaceNet as the paper trains it: NN2, batches of 1,800, AdaGrad at 0.05. A file in configs/ starts from it."""
    config = ConfigDict()
    for key in KEYS:
        *groups, last = key.name.split(".")
        group = config
        for name in groups:
            if name not in group:
                group[name] = ConfigDict()
            group = group[name]
        group[last] = key.default
    return config


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """The values under dotted keys: {"loss.margin": 0.2, ...}."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            values.update(flatten(value, f"{prefix}{key}."))
        else:
            values[f"{prefix}{key}"] = value
    return values


def datasets_of(config: ConfigDict | Mapping[str, Any]) -> list[tuple[str, float]]:
    """(path, weight) of what a config, or a flattened one, trains on: of `data.mixture`, or `data.path` alone."""
    return [(path, weight) for path, weight in config["data.mixture"]] or [(config["data.path"], 1.0)]


def network_title(values: Mapping[str, Any]) -> str:
    """What the network of a flattened config, or of one that an older version saved, is called: nns2, or 2 x nns2."""
    members = values.get("model.members", 1)
    return str(values["model.name"]) if members == 1 else f"{members} x {values['model.name']}"


def validate(config: ConfigDict) -> None:
    """Checks each value by the table, then the combinations.

    Raises:
      InputError: naming the first value that is out of range.
    """
    values = flatten(config)
    for key in KEYS:
        if key.name not in values:
            raise InputError(
                f"config.{key.name} is missing; start the config from facenet_jax.config.default_config()."
            )
        key.check(values[key.name])
    _check_stages(values["loss.stages"])
    _check_mixture(values["data.mixture"])
    _check_faces(values)
    _check_schedule(values)
    if values["compatible_with"] and values["model.members"] > 1:
        raise InputError(
            "config.compatible_with compares whole embeddings, and each of model.members learns its own share; give "
            "model.members=1."
        )
    if values["compatible_with"] and values["offline.every"] and values["offline.mode"] == "alone":
        raise InputError(
            "config.compatible_with mixes old points into triplets that are selected, and offline.mode=alone selects "
            "none; give offline.mode=mixed."
        )


def _check_stages(stages: tuple[Any, ...]) -> None:
    low, high, _ = _MARGIN
    before = 0
    for stage in stages:
        wrong = f"config.loss.stages holds {stage!r};"
        if not isinstance(stage, tuple | list) or len(stage) != 4 or type(stage[0]) is not int:
            raise InputError(f"{wrong} (from_step, positives, negatives, margin) is needed.")
        from_step, positives, negatives, margin = stage
        if from_step <= before:
            raise InputError(f"{wrong} its step must come after {before}, where the stage before it begins.")
        before = from_step
        for name, names in ((positives, _POSITIVES), (negatives, _NEGATIVES)):
            if name not in names:
                raise InputError(f"{wrong} {name!r} must be one of {', '.join(names)}.")
        if not isinstance(margin, int | float) or not low < margin < high:
            raise InputError(f"{wrong} its margin must be a number between {low:g} and {high:g}.")


def _check_mixture(mixture: tuple[Any, ...]) -> None:
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


def _check_faces(values: Mapping[str, Any]) -> None:
    size = values["model.input_size"]
    if len(size) != 2 or not all(type(n) is int and 1 <= n <= 4096 for n in size):
        raise InputError(f"config.model.input_size is {size}; two numbers, rows and columns of pixels, are needed.")
    if values["batch.random_negatives"] >= values["batch.size"]:
        raise InputError(
            f"config.batch.random_negatives is {values['batch.random_negatives']}, the whole batch of "
            f"{values['batch.size']}; lower it, so that faces with a positive are left."
        )


def _check_schedule(values: Mapping[str, Any]) -> None:
    finalise = values["optimizer.finalise_steps"]
    if finalise and finalise + values["optimizer.warmup_steps"] > values["steps"]:
        raise InputError(
            "config.optimizer.warmup_steps and finalise_steps are more than config.steps together; lower one of them."
        )
    rate, final = values["optimizer.learning_rate"], values["optimizer.final_learning_rate"]
    if finalise and final > rate:
        raise InputError(
            f"config.optimizer.final_learning_rate is {final:g}, above the learning_rate of {rate:g}, and the rate "
            "would rise over the last finalise_steps; lower it."
        )
