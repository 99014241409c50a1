"""What every network asks of its input."""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from facenet_jax.errors import InputError

SMALLEST = 32  # rows and columns: five halvings leave one position


def check_input_size(rows: int, columns: int) -> None:
    """Raises InputError for fewer than 32 rows or columns, of which the strides would leave nothing to look at."""
    if min(rows, columns) < SMALLEST:
        raise InputError(
            f"a network's input of {rows}x{columns} pixels is too small; make rows and columns at least {SMALLEST}."
        )


def check_pixels(pixels: jax.Array) -> None:
    """Asserts float32 [N, rows, columns, 3].

    Raises:
      InputError: the image is too small.
    """
    chex.assert_shape(pixels, (None, None, None, 3))
    chex.assert_type(pixels, jnp.float32)
    check_input_size(*pixels.shape[1:3])


def scale_pixels(images: jax.Array) -> jax.Array:
    """uint8 images [N, rows, columns, 3] -> float32 pixels in [-1, 1], what every network takes."""
    chex.assert_shape(images, (None, None, None, 3))
    chex.assert_type(images, jnp.uint8)
    return images.astype(jnp.float32) / 127.5 - 1.0


def apply_network(network: nn.Module, params: Any, images: jax.Array) -> jax.Array:
    """uint8 images [n, rows, columns, 3] -> float32 [n, d] of norm 1."""
    points: jax.Array = network.apply({"params": params}, scale_pixels(images))  # type: ignore[assignment]
    return points
