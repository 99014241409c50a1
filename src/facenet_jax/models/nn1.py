"""NN1: Zeiler & Fergus with 1x1 convolutions (section 3.3, Table 1)."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from facenet_jax.models.layers import Conv, Dense, Flatten, L2Normalise, LocalResponseNorm, MaxoutDense, MaxPool
from facenet_jax.models.pixels import check_pixels


class NN1(nn.Module):
    """Table 1, one line a row: 140,025,664 parameters and 1.6B multiply-adds at 220x220.

    Pixels in [-1, 1], float32 [N, rows, columns, 3] -> float32 unit-norm embeddings [N, embedding_size]. The first
    fully connected layer sees every position, so parameters belong to one input size.
    """

    embedding_size: int = 128
    norm: str = "response"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        check_pixels(pixels)
        conv = partial(Conv, norm=self.norm, dtype=self.dtype)
        x = pixels  # 220x220x3
        x = conv(64, 7, stride=2, name="conv1")(x)
        x = MaxPool(3, stride=2, name="pool1")(x)
        if self.norm == "response":
            x = LocalResponseNorm(name="rnorm1")(x)
        x = conv(64, 1, name="conv2a")(x)
        x = conv(192, 3, name="conv2")(x)
        if self.norm == "response":
            x = LocalResponseNorm(name="rnorm2")(x)
        x = MaxPool(3, stride=2, name="pool2")(x)
        x = conv(192, 1, name="conv3a")(x)
        x = conv(384, 3, name="conv3")(x)
        x = MaxPool(3, stride=2, name="pool3")(x)
        x = conv(384, 1, name="conv4a")(x)
        x = conv(256, 3, name="conv4")(x)
        x = conv(256, 1, name="conv5a")(x)
        x = conv(256, 3, name="conv5")(x)
        x = conv(256, 1, name="conv6a")(x)
        x = conv(256, 3, name="conv6")(x)
        x = MaxPool(3, stride=2, name="pool4")(x)
        x = Flatten(name="concat")(x)
        x = MaxoutDense(32 * 128, pieces=2, dtype=self.dtype, name="fc1")(x)
        x = MaxoutDense(32 * 128, pieces=2, dtype=self.dtype, name="fc2")(x)
        x = Dense(self.embedding_size, name="fc7128")(x)
        return L2Normalise(name="L2")(x)
