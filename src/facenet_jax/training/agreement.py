"""Checks before training that all processes of a job agree."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import jax
import jaxlib

import facenet_jax
from facenet_jax.datasets.exclude import read_list
from facenet_jax.training.training_faces import TrainingFaces

# Each host may have its own copy of the data, whose faces are compared, and cores of its own.
_OF_A_HOST = ("data.path", "data.exclude", "eval.path", "init_from", "compatible_with", "data.workers")
# Flags by which the same program gives other numbers.
_PRECISION = ("jax_default_matmul_precision", "jax_enable_x64", "jax_default_prng_impl", "jax_threefry_partitionable")


def of_settings(flat_config: dict[str, Any]) -> dict[str, Any]:
    """Versions, precision and config, by what a person calls them."""
    code = hashlib.blake2b(digest_size=8)
    for file in sorted(Path(facenet_jax.__file__).parent.rglob("*.py")):
        code.update(file.read_bytes())
    found: dict[str, Any] = {
        "the version of facenet-jax": facenet_jax.__version__,
        "the code of facenet-jax": code.hexdigest(),
        "the version of JAX": jax.__version__,
        "the version of jaxlib": jaxlib.__version__,
        "the kind of devices": jax.default_backend(),
    }
    found |= {name: str(getattr(jax.config, name)) for name in _PRECISION}
    found["NVIDIA_TF32_OVERRIDE"] = os.environ.get("NVIDIA_TF32_OVERRIDE", "")
    found |= {f"config.{key}": value for key, value in flat_config.items() if key not in _OF_A_HOST}
    found["config.data.mixture"] = [weight for _, weight in flat_config["data.mixture"]]
    found["whether there is a config.data.exclude"] = bool(flat_config["data.exclude"])
    return found


def of_faces(faces: TrainingFaces, exclude: str) -> dict[str, str]:
    """Fingerprints of the faces, with their number, and of the list of those that are left out."""
    index, identities = faces.train.index, faces.train_identities
    names = sorted(read_list(exclude, "config.data.exclude")) if exclude else []
    return {
        "the faces trained on": f"{int(index.counts[identities].sum()):,} of {len(identities):,} identities, "
        f"fingerprint {faces.digest[:8]}",
        "the faces evaluated on": f"{len(faces.held_out.records):,} of {faces.held_out.identities:,} identities, "
        f"fingerprint {faces.held_out.digest[:8]}",
        "the names in config.data.exclude": f"{len(names):,} names, fingerprint "
        + hashlib.blake2b("\0".join(names).encode("utf-8", "surrogateescape"), digest_size=4).hexdigest(),
    }
