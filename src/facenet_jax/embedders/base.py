"""The interface of an embedder, and the checks on the vectors it returns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError
from facenet_jax.images.crop import Crop

UNIT_NORM_TOLERANCE = 1e-3
# Ends the name of what takes the mean of a face's point and its mirror image's, so that it is never read as the other.
WITH_FLIP = " with flip"


@runtime_checkable
class Embedder(Protocol):
    """Images -> points on the unit sphere.

    Attributes:
      name: for tables.
      digest: a fingerprint of what it computes; embeddings that were kept are taken up again only under the same.
      size: (rows, columns) of its input in pixels.
      crop: how the faces that it expects are cut, a name of `facenet_jax.images.crop`.
      batch: how many images it takes at once for good speed.
      remarks: what a reader of the figures should know, such as that vectors had to be normalised.
    """

    name: str
    size: tuple[int, int]
    batch: int
    remarks: list[str]

    @property
    def crop(self) -> str:
        """A name of `facenet_jax.images.crop`."""
        ...

    @property
    def digest(self) -> str:
        """Of the parameters, and of how images are fed."""
        ...

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [n, rows, columns, 3] -> float32 [n, d] of norm 1.

        Raises:
          InputError: images of another size, or vectors that are not finite or zero.
        """
        ...


class EmbeddingTable(Protocol):
    """Embeddings that were computed before, by the name of the face.

    Attributes:
      name, digest, remarks: as for an `Embedder`.
    """

    name: str
    digest: str
    remarks: list[str]

    def look_up(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """float32 [n, d] of norm 1, one for each key.

        Raises:
          InputError: a key is not there.
        """
        ...


def check_images(images: NDArray[np.uint8], size: tuple[int, int], name: str) -> None:
    """Raises InputError unless images are uint8 [n, rows, columns, 3] of this size."""
    if images.dtype != np.uint8 or images.shape[1:] != (*size, 3):
        raise InputError(
            f"{name} takes uint8 images of {size[0]}x{size[1]} pixels and 3 colours, not {images.dtype} "
            f"{list(images.shape[1:])}; resize them."
        )


def on_unit_sphere(points: NDArray[np.floating], name: str, remark: Callable[[str], None]) -> NDArray[np.float32]:
    """Vectors of norm 1 in float32; those that were not are normalised, with a remark.

    Args:
      points: [n, d].
      name: of where they come from.
      remark: takes the remark.

    Raises:
      InputError: not two-dimensional, or a vector is not finite or zero.
    """
    if points.ndim != 2 or points.shape[1] == 0:
        raise InputError(f"{name} gives an array of shape {points.shape}; one vector an image, [n, d], is needed.")
    # In float64, so that a vector that is of norm 1 to float32 stays as it is to the last bit but one.
    wide = points.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    bad = ~np.isfinite(norms) | (norms == 0)
    if bad.any():
        raise InputError(
            f"{name}: {int(bad.sum())} of {len(points)} vectors are not finite or zero, the first that of face "
            f"{int(np.argmax(bad))}; look for NaN in the parameters or the images."
        )
    if len(points) and np.any(np.abs(norms - 1) > UNIT_NORM_TOLERANCE):
        remark(f"{name} gives vectors of norm {norms.min():.3g} to {norms.max():.3g}; they were normalised to 1.")
        return (wide / norms[:, None]).astype(np.float32)
    return points.astype(np.float32)


def crop_for(embedder: Embedder, asked: Crop | None) -> Crop:
    """How faces are to be cut for an embedder: as asked, or as it says.

    Raises:
      InputError: it is not known.
    """
    if asked is not None:
        return asked
    if embedder.crop != "none":
        return cast(Crop, embedder.crop)
    raise InputError(
        f"How {embedder.name} wants faces to be cut is not known; say it: --crop tight (the detector's box, as "
        "`facenet-jax prepare` does), similarity (five landmarks), centre, or none (faces that are cut out already)."
    )


def crop_for_dataset(embedder: Embedder | EmbeddingTable, cut: str, asked: Crop | None) -> Crop:
    """How the faces of a dataset are to be cut for an embedder: as asked, or as it says, unless they are cut already.

    Args:
      embedder: what will embed them; a table of embeddings expects nothing.
      cut: how the dataset's faces were cut, `none` where nothing says it.
      asked: what a person asked for.
    """
    if asked is not None:
        return asked
    return cast(Crop, getattr(embedder, "crop", "none")) if cut == "none" else "none"


def crop_in_words(embedder: Embedder | EmbeddingTable, crop: Crop) -> str:
    """A line where `crop_for_dataset` cuts faces without being asked to."""
    return f"faces are cut with --crop {crop}, as {embedder.name} expects; if they are already, --crop none"


def warn_of_crop(embedder: Embedder | EmbeddingTable, cut: str, crop: Crop) -> None:
    """Prints a line where an embedder is given faces that are not cut as it expects.

    Args:
      embedder: what embeds them; nothing is said where it does not tell what it expects.
      cut: how they were cut before, `none` where nothing says it.
      crop: how they are cut now.
    """
    wanted = getattr(embedder, "crop", "none")
    if wanted in ("none", cut if crop == "none" else crop):
        return
    if crop != "none":
        text = f"these are cut with --crop {crop}; give --crop {wanted}"
    elif cut != "none":
        text = f"these were prepared with --crop {cut}; give --crop {wanted}, or prepare the photographs with it"
    else:
        text = f"these are taken as they are (--crop none); give --crop {wanted}, unless they are cut so already"
    print(f"facenet-jax: warning: {embedder.name} expects faces cut with --crop {wanted}, and {text}.", file=sys.stderr)
