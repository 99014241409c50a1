"""A folder for results, in which nothing that somebody else put there is touched."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from facenet_jax.errors import InputError

# Where embeddings are kept as they are made, so that a command that was cut off goes on.
KEPT = "embeddings"


def claim(out: Path, own: Collection[str]) -> None:
    """Makes a folder for results, or takes it where it holds nothing but what an earlier call left.

    Args:
      out: the folder.
      own: names of the files and folders that the caller writes there.

    Raises:
      InputError: it cannot be written, or holds something else.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        strange = sorted(set(os.listdir(out)) - {*own, KEPT})
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); give another folder.") from error
    if strange:
        raise InputError(f"{out} is not empty (it has {strange[0]}); nothing is overwritten: give a new folder.")
