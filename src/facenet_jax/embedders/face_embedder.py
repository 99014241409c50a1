"""Faces -> points, from Python: any embedder, any kind of image, one or many.

faces = FaceEmbedder.load("runs/nn4")
faces.distance("ada.jpg", "ada_older.jpg")
make_pipeline(faces, KNeighborsClassifier(1)).fit(paths, names)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facenet_jax.embedders import Embedder, open_network, with_flip
from facenet_jax.embedders.base import UNIT_NORM_TOLERANCE
from facenet_jax.embedders.engine import NO_FACE, Images, embed_images
from facenet_jax.errors import InputError
from facenet_jax.images.crop import CROPS, Crop
from facenet_jax.images.cut import FaceCutter
from facenet_jax.images.decode import FORMATS, pixels_of

# An image: a file's path; a Pillow image; an array [rows, columns, 3], RGB, uint8 or float from 0 to 1.
Picture: TypeAlias = str | Path | Image.Image | NDArray[Any]

_KINDS = "a path, a Pillow image, or an array [rows, columns, 3] of uint8, or of float from 0 to 1"

# The process in which a network was opened first. Threads of JAX and ONNX Runtime do not live on in a fork of it.
_opened_in: int | None = None


class FaceEmbedder:
    """An embedder that takes images of any kind and size, and a transformer to scikit-learn.

    Images are brought to the embedder's size as by `facenet-jax evaluate`: the middle is cut to its shape and resized.
    It is opened when it is first needed; `fit` learns nothing. A process forked from one in which a network was
    opened cannot embed, and says so: start processes by "spawn", or open nothing before they are forked.
    """

    def __init__(
        self,
        embedder: str | Path,
        *,
        crop: Crop | Literal["own"] = "none",
        step: int | None = None,
        flip: bool = False,
    ) -> None:
        """Says what to open; nothing is read yet.

        Args:
          embedder: the working directory of a run, `onnx:FILE`, or `sface`; see `open_network`.
          crop: how faces are cut: `none` takes images as they are, `own` is the embedder's own; the others are those of
            `facenet_jax.images.crop`. `tight` and `similarity` look for the face first (extra `align`).
          step: of a run's checkpoint; None: the best, or the latest where none was measured.
          flip: whether a point is the mean of the face's and its mirror image's, see `FlippedEmbedder`: such points are
            compared with one another alone.
        """
        self.embedder = embedder
        self.crop = crop
        self.step = step
        self.flip = flip
        self._opened: tuple[Embedder, FaceCutter] | None = None

    @classmethod
    def load(
        cls,
        embedder: str | Path,
        *,
        crop: Crop | Literal["own"] = "none",
        step: int | None = None,
        flip: bool = False,
    ) -> FaceEmbedder:
        """Opens an embedder at once; the arguments are those of the class.

        Raises:
          InputError: there is no such embedder or crop, or it cannot be opened.
        """
        faces = cls(embedder, crop=crop, step=step, flip=flip)
        faces._open()
        return faces

    def embed(self, images: Picture | Iterable[Picture]) -> NDArray[np.float32]:
        """Points on the unit sphere.

        Args:
          images: one image or many. An image is a path, a Pillow image, or an RGB array [rows, columns, 3] of uint8, or
            of float from 0 to 1; many are a list of these, of any sizes, or an array [n, rows, columns, 3].

        Returns:
          float32 [d] for one image, [n, d] for many.

        Raises:
          InputError: no image, one that cannot be read or is of another kind, or in which no face is found where one is
            looked for.
        """
        one = _is_one(images)
        pictures: Sequence[Picture] = [images] if one else list(images)  # type: ignore[list-item, arg-type]
        if not pictures:
            raise InputError(f"there is no image to embed; give {_KINDS}, or several.")
        names = [
            str(p) if isinstance(p, str | Path) else "the image" if one else f"image {n}"
            for n, p in enumerate(pictures)
        ]

        def refuse(number: int, reason: str) -> None:
            if reason == NO_FACE:
                raise InputError(f"{names[number]}: no face was found; give another, or crop='centre' or 'none'.")
            raise InputError(f"{names[number]} cannot be decoded ({reason}); give a {FORMATS} image.")

        embedder, cutter = self._open()
        given = Images(names, lambda number: _read(pictures[number], names[number]), digest="")
        points = embed_images(embedder, given, cutter, on_reject=refuse).points
        return points[0] if one else points

    def distance(
        self, a: Picture | Iterable[Picture] | NDArray[Any], b: Picture | Iterable[Picture] | NDArray[Any]
    ) -> float | NDArray[np.float32]:
        """Squared L2 distance, from 0 to 4 (section 3).

        Args:
          a: images as `embed` takes them, or embeddings, float [d] or [n, d] of norm 1.
          b: the same: as many as a, or one of the two is one image and the other many.

        Returns:
          A number for one and one, otherwise float32 [n].

        Raises:
          InputError: as `embed`, or the two do not go together.
        """
        left, right = self._points(a), self._points(b)
        if left.shape[-1] != right.shape[-1] or (left.ndim == right.ndim == 2 and len(left) != len(right)):
            raise InputError(
                f"embeddings of shapes {list(left.shape)} and {list(right.shape)} cannot be compared; give as many of "
                "each, or one against many, of one embedder."
            )
        squared = np.square(left - right).sum(axis=-1, dtype=np.float32)
        return float(squared) if squared.ndim == 0 else np.asarray(squared)

    def fit(self, images: object = None, y: object = None) -> Self:
        """Opens the embedder; there is nothing to learn."""
        self._open()
        return self

    def transform(self, images: Iterable[Picture]) -> NDArray[np.float32]:
        """`embed` of many images: float32 [n, d]."""
        return np.atleast_2d(self.embed(images))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """What it was made with, for scikit-learn."""
        return {"embedder": self.embedder, "crop": self.crop, "step": self.step, "flip": self.flip}

    def set_params(self, **params: Any) -> Self:
        """Changes what it was made with; it is opened again."""
        for name, value in params.items():
            if name not in self.get_params():
                raise InputError(f"FaceEmbedder has no {name!r}; there are: {', '.join(self.get_params())}.")
            setattr(self, name, value)
        self._opened = None
        return self

    def __sklearn_tags__(self) -> Any:
        # Asked for by scikit-learn alone, which is there then; nothing else of it is needed.
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(two_d_array=False, string=True),
            requires_fit=False,
        )

    def __getstate__(self) -> dict[str, Any]:
        # To another process goes what to open, and not what was opened.
        return self.__dict__ | {"_opened": None}

    def __repr__(self) -> str:
        return f"FaceEmbedder({str(self.embedder)!r}, crop={self.crop!r}, step={self.step!r}, flip={self.flip!r})"

    def _open(self) -> tuple[Embedder, FaceCutter]:
        global _opened_in
        if _opened_in is None:
            _opened_in = os.getpid()
        elif _opened_in != os.getpid():
            raise InputError(
                "This process was forked from one that had opened a network, and would wait for its threads for ever: "
                "start processes by multiprocessing.get_context('spawn') (a DataLoader's multiprocessing_context), or "
                "open no FaceEmbedder before they are forked."
            )
        if self._opened is None:
            embedder = open_network(with_flip(str(self.embedder), self.flip), self.step)
            if self.crop != "own" and self.crop not in CROPS:
                raise InputError(f"there is no crop {self.crop!r}; choose one of own, {', '.join(CROPS)}.")
            crop: Any = embedder.crop if self.crop == "own" else self.crop
            self._opened = embedder, FaceCutter(crop, need_face=crop in ("tight", "similarity"))
        return self._opened

    def _points(self, given: Any) -> NDArray[np.float32]:
        """Embeddings as they are given, or of the images given."""
        first = next(iter(given), None) if isinstance(given, list | tuple) else given
        if not isinstance(first, np.ndarray) or first.ndim > 2 or not np.issubdtype(first.dtype, np.floating):
            return self.embed(given)
        points = np.asarray(given)
        norms = np.linalg.norm(points.astype(np.float64), axis=-1)
        if not points.size or not np.all(np.abs(norms - 1) <= UNIT_NORM_TOLERANCE):
            raise InputError(f"an array of shape {list(points.shape)} is neither embeddings of norm 1 nor {_KINDS}.")
        return points.astype(np.float32)


def _is_one(images: object) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim not in (1, 4)
    return not isinstance(images, Iterable) or isinstance(images, str | Path | Image.Image)


def _read(picture: object, name: str) -> bytes | NDArray[np.uint8]:
    """The bytes of a file, or the pixels of what is decoded already."""
    try:
        if isinstance(picture, Image.Image):
            return pixels_of(picture)
        if isinstance(picture, str | Path):
            return Path(picture).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror or error}); give an image.") from error
    if not isinstance(picture, np.ndarray):
        raise InputError(f"{name} is of the type {type(picture).__name__}; give {_KINDS}.")
    if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(f"{name} is an array of shape {list(picture.shape)}; give {_KINDS}.")
    if picture.dtype == np.uint8:
        return picture
    if not np.issubdtype(picture.dtype, np.floating):
        raise InputError(f"{name} is an array of {picture.dtype}; give {_KINDS}.")
    low, high = float(picture.min()), float(picture.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise InputError(
            f"{name} has float pixels from {low:.4g} to {high:.4g}; give floats from 0 to 1, or uint8 from 0 to 255."
        )
    return np.round(picture * 255.0).astype(np.uint8)
