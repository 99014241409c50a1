"""The config that a run was saved with: rebuilt, and compared with the config of a resumed run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from facenet_jax.config.keys import default_config, flatten
from facenet_jax.errors import InputError

# What may differ when a run is resumed in its working directory: none of it changes the batches or the gradient.
MAY_CHANGE = (
    "batch.chunk",
    "batch.rematerialise",
    "checkpoint.every",
    "checkpoint.keep",
    "compatible_with",  # to the same embedder: its digest is compared
    "data.cache",
    "data.exclude",  # to the same lines: the digest of who is left is compared
    "data.max_bad_share",
    "data.path",  # to the same data: its digest is compared
    "data.workers",
    "deterministic",
    "eval.batch",
    "eval.every",
    "eval.path",
    "log.every",
    "mesh.data",
    "mesh.fsdp",
)

# What follows the faces, unless one of them is asked for.
BATCH = ("batch.size", "batch.random_negatives")
# What follows `steps`, where those are asked for and these are not.
SCHEDULE = ("optimizer.warmup_steps", "optimizer.finalise_steps")

# Keys that are gone, with their defaults: the code does now what it did then.
REMOVED: dict[str, Any] = {
    "data.augment.downsample": 0.0,
    "data.augment.jpeg": 0.0,
    "data.max_faces": 0,
    "offline.negatives": 5,
    "offline.positives": 1,
    "offline.share": 0.5,
}


def as_saved(config: ConfigDict) -> dict[str, Any]:
    """The config flattened, with what JSON makes of its values."""
    values: dict[str, Any] = json.loads(json.dumps(flatten(config)))
    return values


def smaller_batch(values: Mapping[str, Any], size: int) -> dict[str, int]:
    """`BATCH` for fewer faces than a flattened config has, with its share of random negatives."""
    return {
        "batch.size": size,
        "batch.random_negatives": size * values["batch.random_negatives"] // values["batch.size"],
    }


@dataclass(frozen=True)
class LeftOpen:
    """What a command leaves open, so that a resumed run may keep its own.

    Attributes:
      batch: whether the batch is not asked for, and follows the faces.
      schedule: `SCHEDULE` as the config file has it, where the command gives `steps` and not these: versions that did
        not know shares of the steps took it as it was.
    """

    batch: bool = False
    schedule: Mapping[str, int] = field(default_factory=dict)

    def schedule_of(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, int]:
        """The schedule of a run that such a version began with the same command, where it differs from that of now."""
        same_steps = before.get("steps") == now["steps"]
        taken = all(before.get(key) == value for key, value in self.schedule.items())
        return dict(self.schedule) if same_steps and taken and not self.schedule.items() <= now.items() else {}

    def batch_of(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, int]:
        """The smaller batch that a run had, which followed its faces; empty where it is asked for, or no such."""
        size = before.get("batch.size")
        if not self.batch or not isinstance(size, int) or size >= now["batch.size"]:
            return {}
        fitted = smaller_batch(now, size)
        return fitted if fitted.items() <= before.items() else {}


ALL_ASKED = LeftOpen()


def from_saved(values: Mapping[str, Any]) -> ConfigDict:
    """The config of a flattened one that was saved as JSON; keys that are gone are left out, new ones have the default.

    Raises:
      TypeError, ValueError: a value is of another kind than the default.
    """
    config, known = default_config(), flatten(default_config())
    kept = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in known}
    config.update_from_flattened_dict(kept)
    return config


def difference(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Lines `key: then -> now` for what differs between two flattened configs and may not differ in one run.

    The number of steps may differ where the schedule does not depend on it. A key that the run is too old to know had
    the value that is the default now: defaults stay what they were.

    Raises:
      InputError: the run was begun with an option that is gone, at another value than its default.
    """
    for key, default in REMOVED.items():
        if before.get(key, default) != default:
            raise InputError(
                f"the run was begun with config.{key}={before[key]}, an option that is gone: resume with the version "
                "of facenet-jax that began it, or give another --workdir."
            )
    may_change = {*MAY_CHANGE, *REMOVED}
    if before.get("optimizer.finalise_steps") == now.get("optimizer.finalise_steps") == 0:
        may_change.add("steps")
    defaults = flatten(default_config())
    before, now = ({**defaults, **values, "data.mixture": _weights(values)} for values in (before, now))
    lines = []
    for key in sorted(set(before) | set(now)):
        then, new = (list(v) if isinstance(v, tuple) else v for v in (before.get(key), now.get(key)))
        if then != new and key not in may_change:
            lines.append(f"config.{key:.200}: {str(then)[:200]} -> {str(new)[:200]}")
    return lines


def _weights(values: dict[str, Any]) -> list[float]:
    # Like data.path, those of a mixture may change to the same data.
    return [weight for _, weight in values.get("data.mixture", ())]
