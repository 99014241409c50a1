"""The card beside an exported file, and whether the file is still the one that it speaks of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from facenet_jax.errors import InputError

# What a card calls itself; the version changes when a reader of the older one would be misled.
CARD, VERSION = "facenet-jax export", 1


def card_path(file: Path) -> Path:
    """Where the card of an exported file lies: nn4.onnx.json beside nn4.onnx."""
    return file.with_name(file.name + ".json")


def read_card(file: Path, data: bytes) -> dict[str, Any] | None:
    """The card of an exported file; None where there is none.

    Args:
      file: the exported file.
      data: its bytes.

    Raises:
      InputError: the card cannot be read, is of a later version, or the file is not the one that it speaks of.
    """
    path = card_path(file)
    if not path.exists():
        return None
    try:
        card = json.loads(path.read_text())
        known = card["format"] == CARD and isinstance(card["version"], int)
        version, digest = card["version"], card["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no card of an exported file; export anew, or move it away.") from error
    if not known or version > VERSION:
        raise InputError(f"{path} is of a format that this version does not know; bring facenet-jax up to date.")
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError(
            f"{file} is not the file that its card {path.name} speaks of: its SHA-256 is another; export it anew, or "
            "copy both again."
        )
    return dict(card)
