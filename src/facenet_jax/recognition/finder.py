"""Finds and embeds every face in photographs on disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facenet_jax.datasets.prepared import is_prepared
from facenet_jax.datasets.source import FileReader
from facenet_jax.datasets.walk import ignored, images_below
from facenet_jax.embedders import CheckpointEmbedder, Network, network_of, open_network, with_flip
from facenet_jax.embedders.base import crop_for, warn_of_crop
from facenet_jax.embedders.engine import EmbeddedFaces, Images, embed_images
from facenet_jax.errors import InputError
from facenet_jax.evaluation.against import AGAINST, against_digest
from facenet_jax.images.crop import Crop
from facenet_jax.images.cut import FaceCutter
from facenet_jax.images.decode import FORMATS
from facenet_jax.runtime.files import files_digest
from facenet_jax.runtime.progress import Progress


@dataclass(frozen=True)
class Photos:
    """Photographs on disk.

    Attributes:
      images: all of them; a key is the file's path below `root`.
      root: the single folder that was given, or the working directory for files or several folders.
      passed_over: how many files of the folders were passed over, by suffix or reason.
    """

    images: Images
    root: Path
    passed_over: Counter[str] = field(default_factory=Counter)

    @property
    def ignored(self) -> int:
        """How many of a user's own files were passed over."""
        return ignored(self.passed_over)


def open_photos(paths: Sequence[Path]) -> Photos:
    """Lists photographs, those of folders at any depth, in the order of their names' bytes.

    Links are followed, hidden files and folders passed over. A file that is given by name may have any suffix.

    Args:
      paths: folders and files; of a single folder the keys are paths within it.

    Raises:
      InputError: one does not exist, cannot be read or is a prepared dataset, or there is no photograph.
    """
    files: list[Path] = []
    passed_over = Counter[str]()
    for path in paths:
        try:
            is_folder = path.is_dir()
            exists = path.exists()
        except OSError as error:  # its name is too long, or a folder above it may not be entered
            raise InputError(f"{path} cannot be read ({error.strerror}); check it.") from error
        if not exists:
            raise InputError(f"{path} does not exist; give a photograph or a folder of photographs.")
        if not is_folder:
            files.append(path)
            continue
        if is_prepared(path):  # its only image file is the figure of its counts
            raise InputError(f"{path} is a prepared dataset; give the folder of photographs that it was made from.")
        images, others = images_below(path)
        files += images
        passed_over += others
    if not files:
        named = ", ".join(str(path) for path in paths)
        raise InputError(f"{named} holds no photographs; give a folder with files of {FORMATS}.")
    files = list(dict.fromkeys(files))
    root = paths[0] if len(paths) == 1 and paths[0].is_dir() else Path()
    keys = tuple(os.path.relpath(file, root) if root != Path() else str(file) for file in files)
    reader = FileReader(root)
    return Photos(Images(keys, lambda number: reader.read(keys[number]), files_digest(root, files)), root, passed_over)


@dataclass(frozen=True)
class Known:
    """An embedder whose points are enrolled: its spec, its name for people, and its digest."""

    spec: str
    name: str
    digest: str


@dataclass(frozen=True)
class FaceFinder:
    """An open embedder, and how faces are cut for it.

    Attributes:
      spec: as `open_embedder` takes it.
      step: of a run's checkpoint; None for others.
      embedder: the open embedder.
      crop: how faces are cut for it.
      known: an older embedder, with whose points this one's are compared; None: with its own.
    """

    spec: str
    step: int | None
    embedder: Network
    crop: Crop
    known: Known | None = None

    def find(self, images: Images, keep: Path | None = None, progress: Progress | None = None) -> EmbeddedFaces:
        """Finds and embeds every face; arguments and errors as for `embed_images`."""
        return embed_images(self.embedder, images, FaceCutter(self.crop, every=True), keep, progress)

    @property
    def options(self) -> str:
        """The options that name it on the command line."""
        against = "" if self.known is None else f" --against {self.known.spec}"
        return (
            f"--embedder {self.spec}{'' if self.step is None else f' --step {self.step}'}{against} --crop {self.crop}"
        )

    @property
    def name(self) -> str:
        """The name of the embedder, or of the pair that gives the distances, for people."""
        return self.embedder.name + ("" if self.known is None else f"{AGAINST}{self.known.name}")

    @property
    def digest(self) -> str:
        """The digest of the embedder, or of the pair that gives the distances: a threshold holds for that alone."""
        return self.embedder.digest if self.known is None else against_digest(self.embedder.digest, self.known.digest)


def open_finder(spec: str, step: int | None = None, crop: Crop | None = None, flip: bool = False) -> FaceFinder:
    """Opens an embedder to find faces with; warns of a crop that it was not made for.

    Args:
      spec, step: see `open_network`.
      crop: as `crop_for` takes it.
      flip: whether the mean with the mirror image is taken, as `flip:` before the spec says too.

    Raises:
      InputError: there is no such embedder, it is a file of embeddings, or how faces are cut is not known.
    """
    spec = with_flip(spec, flip)
    embedder = open_network(spec, step)
    network = network_of(embedder)
    own = network.step if isinstance(network, CheckpointEmbedder) else None
    used = crop_for(embedder, crop)
    warn_of_crop(embedder, "none", used)
    return FaceFinder(spec, own, embedder, used)
