"""Helpers for tests of `prepare`: pictures, folders and prepared datasets."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from facenet_jax.datasets.drawn import render
from facenet_jax.prepare.prepare import prepare
from facenet_jax.prepare.summary import FIGURE_FILE


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, without locks and the figure that the command draws."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith(".lock") and file.name != FIGURE_FILE
    }


def encoded(image, suffix="png", **options) -> bytes:
    """An image file's bytes."""
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))).save(stream, suffix, **options)
    return stream.getvalue()


def person(identity: int, exemplar: int, side: int = 32):
    """A drawn face, uint8 [side, side, 3]."""
    return np.asarray(render(7, identity, exemplar, (side, side)))


def two_people():
    """A grey picture, uint8 [300, 400, 3], with somebody on the upper left and a smaller person on the lower right."""
    scene = np.full((300, 400, 3), 128, np.uint8)
    for identity, (row, column, side) in enumerate([(140, 240, 130), (20, 30, 160)]):
        scene[row : row + side, column : column + side] = person(identity, 0, side)
    return scene


def crowd(root: Path, people: int, faces: int, side: int = 16) -> Path:
    """A folder of noise images under many names, quick to make."""
    rng = np.random.default_rng(0)
    for identity in range(people):
        (root / f"{identity:03d}").mkdir(parents=True)
        for face in range(faces):
            image = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
            (root / f"{identity:03d}" / f"{face}.png").write_bytes(encoded(image))
    return root


def prepared(source: Path, out: Path, **options):
    """Prepares in this process."""
    options = {"crop": "none", "workers": 0} | options
    return prepare(source, out, **options)
