"""Exports a checkpoint: writes the file, compares it with the Flax module, and writes its card."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from facenet_jax import models
from facenet_jax.config import flatten, network_title
from facenet_jax.datasets.open import crop_of, open_dataset
from facenet_jax.embedders import CheckpointEmbedder, FlippedEmbedder, OnnxEmbedder
from facenet_jax.embedders.base import crop_for_dataset, crop_in_words, warn_of_crop
from facenet_jax.embedders.onnx import CARD_FORMAT, CARD_VERSION, OnnxInput
from facenet_jax.errors import InputError, how_to_install
from facenet_jax.export.card import figures_of, write_card
from facenet_jax.export.stablehlo import PLATFORMS, to_stablehlo
from facenet_jax.images.crop import Crop
from facenet_jax.images.cut import FaceCutter
from facenet_jax.images.decode import BadFace
from facenet_jax.models.networks import apply_network, apply_network_flipped
from facenet_jax.runtime.compiled import announced
from facenet_jax.runtime.files import write_whole
from facenet_jax.runtime.mesh import make_mesh

# The largest difference of a coordinate from the Flax module's that counts as rounding.
PARITY = 1e-4
_CALIBRATION_FACES = 256
_PARITY_IMAGES = 8


@dataclass(frozen=True)
class Wanted:
    """A request for an export.

    Attributes:
      workdir, step: the checkpoint; see `CheckpointEmbedder`.
      to: "onnx" or "stablehlo".
      file: where it is written; the card is written next to it.
      dtype: of weights and arithmetic: "float32", "float16" or "int8".
      calibrate: a folder of faces, for int8.
      crop: how these are cut; None: as the network expects, unless they are cut already.
      evaluation: for the card, PROTOCOL.json of `facenet-jax evaluate` on this checkpoint, of flipped points with flip.
      flip: whether the file gives the mean of a face's point and its mirror image's, see `FlippedEmbedder`.
    """

    workdir: Path
    to: str
    file: Path
    dtype: str = "float32"
    step: int | None = None
    calibrate: Path | None = None
    crop: Crop | None = None
    evaluation: Path | None = None
    flip: bool = False


def export(wanted: Wanted, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Exports a checkpoint and returns its card.

    Raises:
      InputError: there is no such checkpoint, options contradict each other, a folder has no faces, or the evaluation
        is of another embedder.
    """
    _check(wanted)
    embedder = CheckpointEmbedder(wanted.workdir, wanted.step, make_mesh(1))
    measured = FlippedEmbedder(embedder) if wanted.flip else embedder
    figures = figures_of(wanted.evaluation, measured.digest, measured.name) if wanted.evaluation else None
    faces = _faces(wanted.calibrate, embedder, wanted.crop, say) if wanted.calibrate else None
    data = _data(wanted, embedder, faces)
    images = np.random.default_rng(0).integers(0, 256, (_PARITY_IMAGES, *embedder.size, 3)).astype(np.uint8)
    parity = _parity(wanted, embedder, data, images if faces is None else faces[: 4 * _PARITY_IMAGES])
    card = _card(wanted, embedder, data) | {
        "calibration_faces": None if faces is None else len(faces),
        "parity": parity,
        "evaluation": figures,
    }
    _write(wanted.file, data)
    write_card(wanted.file, card)
    return card


def _check(wanted: Wanted) -> None:
    if wanted.dtype == "int8" and wanted.to != "onnx":
        raise InputError("--dtype=int8 is made for ONNX; give --to onnx, or --dtype float16.")
    if (wanted.dtype == "int8") != (wanted.calibrate is not None):
        raise InputError("--dtype=int8 and --calibrate=FOLDER, faces that its scales are taken from, go together.")
    if wanted.crop is not None and wanted.calibrate is None:
        raise InputError(f"--crop={wanted.crop} says how the faces of --calibrate are cut; give both, or neither.")
    if not wanted.file.resolve().parent.is_dir():
        raise InputError(f"{wanted.file.parent} is not a folder; make it, or give another -o FILE.")
    if wanted.file.is_dir():
        raise InputError(f"{wanted.file} is a folder; give -o a file.")
    if wanted.to == "onnx":
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise InputError(f"ONNX files need onnx and onnxruntime: {how_to_install('onnx')}.") from error


def _faces(
    folder: Path, embedder: CheckpointEmbedder, asked: Crop | None, say: Callable[[str], None]
) -> NDArray[np.uint8]:
    """Faces spread evenly over a folder, cut as the network expects."""
    source, cut = open_dataset(folder, singles=True), crop_of(folder)
    crop = crop_for_dataset(embedder, cut, asked)
    warn_of_crop(embedder, cut, crop)
    if asked is None and crop != "none":
        say(crop_in_words(embedder, crop))
    cutter = FaceCutter(crop)
    chosen = np.unique(np.linspace(0, source.index.records - 1, _CALIBRATION_FACES).round().astype(int))
    faces, bad = [], []
    for record in chosen.tolist():
        try:
            faces.append(cutter(source.read(record), embedder.size)[0].pixels)
        except BadFace as error:
            bad.append(f"{source.describe(record)} ({error})")
    if bad:
        say(f"left out of the calibration: {', '.join(bad)}")
    if not faces:
        raise InputError(f"none of the images of {folder} can be decoded; give --calibrate a folder of faces.")
    return np.stack(faces)


def _data(wanted: Wanted, embedder: CheckpointEmbedder, faces: NDArray[np.uint8] | None) -> bytes:
    network = models.in_dtype(embedder.network, jnp.float16 if wanted.dtype == "float16" else jnp.float32)
    if wanted.to == "stablehlo":
        return to_stablehlo(network, embedder.params, embedder.size, wanted.flip)
    from facenet_jax.export.onnx import to_onnx

    model = to_onnx(network, embedder.params, embedder.size, wanted.flip)
    if faces is not None:
        from facenet_jax.export.int8 import to_int8

        model = to_int8(model, faces)
    return bytes(model.SerializeToString())


def _parity(
    wanted: Wanted, embedder: CheckpointEmbedder, data: bytes, images: NDArray[np.uint8]
) -> dict[str, float | int | str]:
    """The differences between the embeddings of the file and of the Flax module in float32."""
    network = models.in_dtype(embedder.network, jnp.float32)
    apply = apply_network_flipped if wanted.flip else apply_network
    embed = announced(jax.jit(partial(apply, network)), f"{embedder.config.model.name}, to compare with")
    expected = embed(embedder.params, images)
    if wanted.to == "stablehlo":
        found = jax.export.deserialize(bytearray(data)).call(images)
    else:
        found = OnnxEmbedder(data, str(wanted.file), OnnxInput()).embed(images)
    off = np.asarray(found, np.float64) - np.asarray(expected, np.float64)
    if wanted.dtype == "float32" and np.abs(off).max() > PARITY:
        raise RuntimeError(f"{wanted.file} would give embeddings that are off by up to {np.abs(off).max():.3g}")
    return {
        "against": "the Flax module in float32",
        "images": len(images),
        "of": "random pixels" if wanted.calibrate is None else "the faces of the calibration",
        "largest_difference": float(np.abs(off).max()),
        "largest_squared_distance": float((off**2).sum(axis=1).max()),
    }


def _card(wanted: Wanted, embedder: CheckpointEmbedder, data: bytes) -> dict[str, Any]:
    """The card but for its measured parts: the file's format, input and output, and the checkpoint."""
    parameters, multiply_adds = models.totals(embedder.network, embedder.size)
    return {
        "format": CARD_FORMAT,
        "version": CARD_VERSION,
        "file": wanted.file.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "form": wanted.to,
        **({"platforms": list(PLATFORMS)} if wanted.to == "stablehlo" else {}),
        "dtype": wanted.dtype,
        **({"flip": True} if wanted.flip else {}),
        "input": {
            "name": "images",
            "shape": ["N", *embedder.size, 3],
            "dtype": "uint8",
            "layout": "NHWC",
            "colour": "rgb",
            "range": [0, 255],
            "scaling": "pixel / 127.5 - 1, within the file",
            "crop": embedder.crop,
        },
        "output": {
            "name": "embeddings",
            "shape": ["N", int(embedder.config.model.embedding_size)],
            "dtype": "float32",
            "norm": 1,
            "distance": "squared L2, from 0 to 4",
        },
        "network": {
            "name": network_title(flatten(embedder.config)),
            "parameters": parameters,
            "multiply_adds": multiply_adds * (2 if wanted.flip else 1),
        },
        "checkpoint": {"run": wanted.workdir.resolve().name, "step": embedder.step, "digest": embedder.digest},
    }


def _write(file: Path, data: bytes) -> None:
    try:
        write_whole(file, data)
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}); give another -o FILE.") from error
