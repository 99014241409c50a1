"""Draws docs/faces.png: what drawn people look like, one a row.

python docs/figures/faces.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.datasets.drawn import render_batch

_GUTTER = 2


def sheet(seed: int, identities: int, exemplars: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """One identity a row, one exemplar a column, with thin white gutters: uint8 [height, width, 3]."""
    who, which = np.divmod(np.arange(identities * exemplars), exemplars)
    faces = render_batch(seed, who, which, size).reshape(identities, exemplars, *size, 3)
    faces = np.pad(faces, ((0, 0), (0, 0), (_GUTTER, 0), (_GUTTER, 0), (0, 0)), constant_values=255)
    rows, columns = identities * (size[0] + _GUTTER), exemplars * (size[1] + _GUTTER)
    whole = faces.swapaxes(1, 2).reshape(rows, columns, 3)
    return np.pad(whole, ((0, _GUTTER), (0, _GUTTER), (0, 0)), constant_values=255)


def main() -> None:
    """Draws it, in 256 colours, into the folder that is named, or docs/."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    Image.fromarray(sheet(5, 8, 10, (84, 84))).quantize(256).save(folder / "faces.png", optimize=True)


if __name__ == "__main__":
    main()
