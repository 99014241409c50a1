"""Reads and writes the card of an exported file: input, output, origin and measured accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from facenet_jax.embedders.base import WITH_FLIP
from facenet_jax.embedders.onnx import card_path
from facenet_jax.errors import InputError
from facenet_jax.runtime.files import write_whole
from facenet_jax.runtime.json_files import read_json

_INSTEAD = "make one: facenet-jax evaluate holdout --embedder RUN --data PEOPLE --out RESULTS"


def figures_of(file: Path, digest: str, name: str) -> dict[str, Any]:
    """The figures of one embedder in an evaluation: protocol, data, crop, and its rates with their thresholds.

    Args:
      file: PROTOCOL.json that `facenet-jax evaluate --out` wrote.
      digest, name: of the embedder.

    Raises:
      InputError: the file cannot be read, is not an evaluation with rates, or is of another embedder.
    """
    try:
        document = read_json(file)
        entries = {entry.get("digest"): entry for entry in document["embedders"]}
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); {_INSTEAD}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is not a result of `facenet-jax evaluate`; {_INSTEAD}.") from error
    if digest not in entries:
        raise InputError(f"{file} is not of {name} as it is now (its digest is another); {_INSTEAD}.")
    entry = entries[digest]
    try:
        result = entry["result"]
        figures = {
            "of": f"the checkpoint{WITH_FLIP * name.endswith(WITH_FLIP)}, in float32",
            "protocol": document["protocol"],
            "data": Path(document["data"]).name,
            "crop": document["crop"],
            "same_pairs": result["same_pairs"],
            "different_pairs": result["different_pairs"],
            "rates": result["rates"],
        }
    except (KeyError, TypeError) as error:
        raise InputError(f"{file} holds no rates with thresholds; {_INSTEAD}.") from error
    return figures


def write_card(file: Path, card: dict[str, Any]) -> Path:
    """Writes a file's card and returns its path."""
    path = card_path(file)
    write_whole(path, json.dumps(card, indent=1, allow_nan=False) + "\n")
    return path
