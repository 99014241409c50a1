"""Times PyTorch's DataLoader with a sampler of P identities x K faces, turn by turn: see benchmarks/loader.py.

It decodes with Pillow, as is common, or with our own loader's decoder, so that only loading differs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmarks.lines import serve
from facenet_jax.images.decode import decode


class Folder(Dataset[tuple[torch.Tensor, int]]):
    """Images of <identity>/<image>, centre-cropped and resized: uint8 [size, size, 3]."""

    def __init__(self, folder: str, size: int, with_pillow: bool) -> None:
        people = sorted(path for path in Path(folder).iterdir() if path.is_dir())
        self.files = [(str(file), label) for label, person in enumerate(people) for file in sorted(person.iterdir())]
        self.size = size
        self.with_pillow = with_pillow

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        file, label = self.files[place]
        if self.with_pillow:
            with Image.open(file) as image:
                image.draft("RGB", (self.size, self.size))
                face = ImageOps.fit(image.convert("RGB"), (self.size, self.size), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(face))
        else:
            pixels = torch.from_numpy(decode(file, (self.size, self.size)))
        return pixels, label


class Exemplars(Sampler[list[int]]):
    """Batches of K faces of each of P identities, identities without replacement."""

    def __init__(self, files: list[tuple[str, int]], identities: int, faces: int, batches: int) -> None:
        self.of: dict[int, list[int]] = {}
        for place, (_, label) in enumerate(files):
            self.of.setdefault(label, []).append(place)
        self.identities, self.faces, self.batches = identities, faces, batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        order: list[int] = []
        for _ in range(self.batches):
            if len(order) < self.identities:
                order = torch.randperm(len(self.of)).tolist()
            chosen, order = order[: self.identities], order[self.identities :]
            yield [
                self.of[label][place]
                for label in chosen
                for place in torch.randperm(len(self.of[label]))[: self.faces].tolist()
            ]


def loader(
    folder: str,
    size: int,
    identities: int,
    faces: int,
    workers: int,
    warm: int,
    batches: int,
    with_pillow: bool = False,
) -> dict[str, Any]:
    """Images a second; the arguments are those of benchmarks/loader_child.py."""
    data = Folder(folder, size, with_pillow)
    sampler = Exemplars(data.files, identities, faces, 2 * (warm + batches))
    loaded = iter(DataLoader(data, batch_sampler=sampler, num_workers=workers))
    for _ in range(warm):
        next(loaded)
    # More batches are asked for than timed, so that the same number is read ahead at the end as at the beginning.
    started = time.perf_counter()
    for _ in range(batches):
        images, _ = next(loaded)
        assert images.shape == (identities * faces, size, size, 3)
        assert images.dtype == torch.uint8
    seconds = time.perf_counter() - started
    del loaded  # ends its workers
    return {"images_per_second": batches * identities * faces / seconds}


def versions() -> dict[str, Any]:
    """The versions of this environment."""
    return {"torch": torch.__version__}


if __name__ == "__main__":
    serve({"loader": loader, "versions": versions})
