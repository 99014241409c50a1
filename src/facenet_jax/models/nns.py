"""NNS1 and NNS2: the 'mini' and 'tiny' Inception networks for phones (section 3.3). Both are reconstructions.

The paper gives their input sizes (165x165 and 140x116) and totals (26M parameters and 220M multiply-adds; 4.3M and
20M), but no layer table. The totals say more than they seem to. A weight of a fully connected layer is used once an
image; a weight of a convolution at every position of its output, and after the five halvings of NN2 the last map
still has 6x6 = 36 positions (5x4 = 20 for NNS2). So, with F weights in fully connected layers and C in convolutions,

    NNS1:  F + C = 26M,   F + 36 C <= 220M   =>  C <= 5.5M,  F >= 20M
    NNS2:  F + C = 4.3M,  F + 20 C <=  20M   =>  C <= 0.8M,  F >= 3.5M

which average pooling and one layer to 128 cannot hold: F would need 160,000 channels. Both must flatten the last map
into a large fully connected layer, as NN1 does. The widths below are ours: Table 2's kinds of rows, in its order, with
fewer of them, narrower, so that both totals are met within 1 % (tests/paper says so).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from facenet_jax.models.inception import Columns, Inception
from facenet_jax.models.layers import Conv, Dense, Flatten, L2Normalise, LocalResponseNorm, MaxPool
from facenet_jax.models.pixels import check_pixels

# fmt: off
# Table 2 at half the width, without 3b, 4c and 5b.
NNS1_TABLE = {
    #                      #1x1  #3x3 reduce  #3x3  #5x5 reduce  #5x5  pool   proj (p)
    "inception2":  Columns(   0,          32,   96,           0,    0,   "",         0),
    "inception3a": Columns(  32,          48,   64,           8,   16,  "m",        16),
    "inception3c": Columns(   0,          64,  128,          16,   32,  "m",         0, stride=2),
    "inception4a": Columns( 128,          48,   96,          16,   32, "L2",        64),
    "inception4b": Columns( 112,          56,  112,          16,   32, "L2",        64),
    "inception4d": Columns(  80,          72,  144,          16,   32, "L2",        64),
    "inception4e": Columns(   0,          80,  128,          32,   64,  "m",         0, stride=2),
    "inception5a": Columns( 192,          96,  192,          24,   64, "L2",        64),
}

# One row for each map size, no 5x5: "the 5x5 convolutions can be removed throughout with only a minor drop".
NNS2_TABLE = {
    #                      #1x1  #3x3 reduce  #3x3  #5x5 reduce  #5x5  pool   proj (p)
    "inception2":  Columns(   0,           8,   24,           0,    0,   "",         0),
    "inception3a": Columns(  16,          16,   32,           0,    0,  "m",        16),
    "inception3c": Columns(   0,          24,   48,           0,    0,  "m",         0, stride=2),
    "inception4e": Columns(   0,          32,   64,           0,    0,  "m",         0, stride=2),
    "inception5a": Columns(  64,          32,   64,           0,    0, "L2",        32),
}
# fmt: on


class NNS1(nn.Module):
    """The mini Inception, reconstructed: 25.9M parameters and 220.5M multiply-adds at 165x165.

    Pixels in [-1, 1], float32 [N, rows, columns, 3] -> float32 unit-norm embeddings [N, embedding_size]. The fully
    connected layer sees every position, so parameters belong to one input size.
    """

    embedding_size: int = 128
    norm: str = "response"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        check_pixels(pixels)
        x = pixels
        x = Conv(32, 7, stride=2, norm=self.norm, dtype=self.dtype, name="conv1")(x)
        x = MaxPool(3, stride=2, name="pool1")(x)
        if self.norm == "response":
            x = LocalResponseNorm(name="norm1")(x)
        x = self.inception("inception2", x)
        if self.norm == "response":
            x = LocalResponseNorm(name="norm2")(x)
        x = MaxPool(3, stride=2, name="pool2")(x)
        x = self.inception("inception3a", x)
        x = self.inception("inception3c", x)
        x = self.inception("inception4a", x)
        x = self.inception("inception4b", x)
        x = self.inception("inception4d", x)
        x = self.inception("inception4e", x)
        x = self.inception("inception5a", x)
        x = Flatten(name="concat")(x)
        x = Dense(1328, relu=True, dtype=self.dtype, name="fc1")(x)
        x = Dense(self.embedding_size, name="fc2")(x)
        return L2Normalise(name="L2")(x)

    def inception(self, row: str, x: jax.Array) -> jax.Array:
        return Inception(NNS1_TABLE[row], norm=self.norm, dtype=self.dtype, name=row)(x)


class NNS2(nn.Module):
    """The tiny Inception, reconstructed: 4.3M parameters and 19.9M multiply-adds at 140 rows x 116 columns.

    Pixels in [-1, 1], float32 [N, rows, columns, 3] -> float32 unit-norm embeddings [N, embedding_size]. The fully
    connected layer sees every position, so parameters belong to one input size.
    """

    embedding_size: int = 128
    norm: str = "response"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        check_pixels(pixels)
        x = pixels
        x = Conv(16, 7, stride=2, norm=self.norm, dtype=self.dtype, name="conv1")(x)
        x = MaxPool(3, stride=2, name="pool1")(x)
        if self.norm == "response":
            x = LocalResponseNorm(name="norm1")(x)
        x = self.inception("inception2", x)
        if self.norm == "response":
            x = LocalResponseNorm(name="norm2")(x)
        x = MaxPool(3, stride=2, name="pool2")(x)
        x = self.inception("inception3a", x)
        x = self.inception("inception3c", x)
        x = self.inception("inception4e", x)
        x = self.inception("inception5a", x)
        x = Flatten(name="concat")(x)
        x = Dense(1264, relu=True, dtype=self.dtype, name="fc1")(x)
        x = Dense(self.embedding_size, name="fc2")(x)
        return L2Normalise(name="L2")(x)

    def inception(self, row: str, x: jax.Array) -> jax.Array:
        return Inception(NNS2_TABLE[row], norm=self.norm, dtype=self.dtype, name=row)(x)
