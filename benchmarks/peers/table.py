"""NN4's table as plain values, which the peers' environment, without Flax, can take."""

from __future__ import annotations

import dataclasses
from typing import Any

from facenet_jax.models.networks import TABLE_2, WITHOUT_5X5


def nn4_table() -> dict[str, dict[str, Any]]:
    """Table 2 without the 5x5 branches of the lower modules, as NN4 has it: row -> fields of `Columns`."""
    return {
        row: dataclasses.asdict(columns.without_5x5() if row in WITHOUT_5X5["lower"] else columns)
        for row, columns in TABLE_2.items()
    }
