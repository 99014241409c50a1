"""NN2: Inception (section 3.3, Table 2), and with it NN3 and NN4, which are NN2 on smaller inputs."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from facenet_jax.models.inception import Columns, Inception
from facenet_jax.models.layers import AveragePool, Conv, Dense, L2Normalise, LocalResponseNorm, MaxPool
from facenet_jax.models.pixels import check_pixels

# fmt: off
TABLE_2 = {
    #                      #1x1  #3x3 reduce  #3x3  #5x5 reduce  #5x5  pool   proj (p)
    "inception2":  Columns(   0,          64,  192,           0,    0,   "",         0),
    "inception3a": Columns(  64,          96,  128,          16,   32,  "m",        32),
    "inception3b": Columns(  64,          96,  128,          32,   64, "L2",        64),
    "inception3c": Columns(   0,         128,  256,          32,   64,  "m",         0, stride=2),
    "inception4a": Columns( 256,          96,  192,          32,   64, "L2",       128),
    "inception4b": Columns( 224,         112,  224,          32,   64, "L2",       128),
    "inception4c": Columns( 192,         128,  256,          32,   64, "L2",       128),
    "inception4d": Columns( 160,         144,  288,          32,   64, "L2",       128),
    "inception4e": Columns(   0,         160,  256,          64,  128,  "m",         0, stride=2),
    "inception5a": Columns( 384,         192,  384,          48,  128, "L2",       128),
    "inception5b": Columns( 384,         192,  384,          48,  128,  "m",       128),
}
# fmt: on

# Which modules keep their 5x5 branch. 'lower' is NN4: "it does not use 5x5 convolutions in the higher layers"; that
# these are 4e, 5a and 5b is arithmetic: it gives the paper's 285M multiply-adds. 'none' is Table 6's network.
HIGHER = ("inception4e", "inception5a", "inception5b")
WITHOUT_5X5 = {"all": (), "lower": HIGHER, "none": tuple(TABLE_2)}


class NN2(nn.Module):
    """Table 2, one line a row: 7,456,304 parameters, and 1.6B multiply-adds at 224x224.

    Pixels in [-1, 1], float32 [N, rows, columns, 3] -> float32 unit-norm embeddings [N, embedding_size]. The same
    parameters serve any input size. `five_by_five` says where the 5x5 branches stay: 'all' (NN2, NN3), 'lower' (NN4)
    or 'none' (Table 6).
    """

    embedding_size: int = 128
    five_by_five: str = "all"
    norm: str = "response"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        check_pixels(pixels)
        x = pixels
        x = Conv(64, 7, stride=2, norm=self.norm, dtype=self.dtype, name="conv1")(x)
        x = MaxPool(3, stride=2, name="pool1")(x)
        if self.norm == "response":
            x = LocalResponseNorm(name="norm1")(x)
        x = self.inception("inception2", x)
        if self.norm == "response":
            x = LocalResponseNorm(name="norm2")(x)
        x = MaxPool(3, stride=2, name="pool2")(x)
        x = self.inception("inception3a", x)
        x = self.inception("inception3b", x)
        x = self.inception("inception3c", x)
        x = self.inception("inception4a", x)
        x = self.inception("inception4b", x)
        x = self.inception("inception4c", x)
        x = self.inception("inception4d", x)
        x = self.inception("inception4e", x)
        x = self.inception("inception5a", x)
        x = self.inception("inception5b", x)
        x = AveragePool(name="avg_pool")(x)
        x = Dense(self.embedding_size, name="fc")(x)
        return L2Normalise(name="L2")(x)

    def inception(self, row: str, x: jax.Array) -> jax.Array:
        columns = TABLE_2[row]
        if row in WITHOUT_5X5[self.five_by_five]:
            columns = columns.without_5x5()
        return Inception(columns, norm=self.norm, dtype=self.dtype, name=row)(x)
