"""Gives Table 2 as plain values, for the peers' environment, which has no Flax."""

from __future__ import annotations

import dataclasses
from typing import Any

from facenet_jax.models.networks import TABLE_2, WITHOUT_5X5


def table_2(five_by_five: str = "lower") -> dict[str, dict[str, Any]]:
    """Row -> fields of `Columns`; which 5x5 branches stay is a key of WITHOUT_5X5: NN4 has 'lower', NN2 'all'."""
    return {
        row: dataclasses.asdict(columns.without_5x5() if row in WITHOUT_5X5[five_by_five] else columns)
        for row, columns in TABLE_2.items()
    }
