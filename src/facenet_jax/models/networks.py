"""The networks of section 3.3 as tables, and the one Flax module that runs a table.

A network takes pixels in [-1, 1], float32 [N, rows, columns, 3], and gives float32 embeddings [N, d] of norm 1.

Reference: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, section 3.3, Tables 1 and 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from facenet_jax.errors import InputError
from facenet_jax.models.layers import (
    NORMS,
    AveragePool,
    Columns,
    Conv,
    Dense,
    Flatten,
    Inception,
    Join,
    L2Normalise,
    LocalResponseNorm,
    MaxoutDense,
    MaxPool,
)

DTYPES = ("float32", "bfloat16")
SMALLEST_SHARE = 16  # dimensions of a member of an ensemble
SMALLEST = 32  # rows and columns: five halvings leave one position

# A row is a layer's name, its class and what the class takes. A Dense without a width is the embedding.
Row = tuple[Any, ...]

# fmt: off
TABLE_1: tuple[Row, ...] = (
    ("conv1",  Conv, 64, 7, 2),  # features, kernel, stride; the input is 220x220x3
    ("pool1",  MaxPool, 3, 2),
    ("rnorm1", LocalResponseNorm),
    ("conv2a", Conv, 64, 1),
    ("conv2",  Conv, 192, 3),
    ("rnorm2", LocalResponseNorm),
    ("pool2",  MaxPool, 3, 2),
    ("conv3a", Conv, 192, 1),
    ("conv3",  Conv, 384, 3),
    ("pool3",  MaxPool, 3, 2),
    ("conv4a", Conv, 384, 1),
    ("conv4",  Conv, 256, 3),
    ("conv5a", Conv, 256, 1),
    ("conv5",  Conv, 256, 3),
    ("conv6a", Conv, 256, 1),
    ("conv6",  Conv, 256, 3),
    ("pool4",  MaxPool, 3, 2),
    ("concat", Flatten),
    ("fc1",    MaxoutDense, 32 * 128, 2),  # features, pieces
    ("fc2",    MaxoutDense, 32 * 128, 2),
    ("fc7128", Dense),
    ("L2",     L2Normalise),
)

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

# NNS1 and NNS2, the 'mini' and 'tiny' networks for phones, are reconstructions.
#
# The paper gives their input sizes (165x165 and 140x116) and totals (26M parameters and 220M multiply-adds; 4.3M and
# 20M), but no layer table. The totals say more than they seem to. A weight of a fully connected layer is used once an
# image; a weight of a convolution at every position of its output, and after the five halvings of NN2 the last map
# still has 6x6 = 36 positions (5x4 = 20 for NNS2). So, with F weights in fully connected layers and C in convolutions,
#
#     NNS1:  F + C = 26M,   F + 36 C <= 220M   =>  C <= 5.5M,  F >= 20M
#     NNS2:  F + C = 4.3M,  F + 20 C <=  20M   =>  C <= 0.8M,  F >= 3.5M
#
# which average pooling and one layer to 128 cannot hold: F would need 160,000 channels. Both must flatten the last map
# into a large fully connected layer, as NN1 does. The widths below are ours: Table 2's kinds of rows, in its order,
# with fewer of them, narrower, so that both totals are met within 1 % (tests/paper says so).
#
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

# Which modules keep their 5x5 branch. 'lower' is NN4: "it does not use 5x5 convolutions in the higher layers"; that
# these are 4e, 5a and 5b is arithmetic: it gives the paper's 285M multiply-adds. 'none' is Table 6's network.
HIGHER = ("inception4e", "inception5a", "inception5b")
WITHOUT_5X5 = {"all": (), "lower": HIGHER, "none": tuple(TABLE_2)}


def _inception_network(table: dict[str, Columns], stem: int, head: tuple[Row, ...]) -> tuple[Row, ...]:
    """Table 2's body: a 7x7 convolution to `stem` channels, Inception modules, a head."""
    second, *others = ((name, Inception, columns) for name, columns in table.items())
    return (
        ("conv1", Conv, stem, 7, 2),
        ("pool1", MaxPool, 3, 2),
        ("norm1", LocalResponseNorm),
        second,
        ("norm2", LocalResponseNorm),
        ("pool2", MaxPool, 3, 2),
        *others,
        *head,
    )


def _averaged() -> tuple[Row, ...]:
    """NN2's head, which serves any input size."""
    return (("avg_pool", AveragePool), ("fc", Dense), ("L2", L2Normalise))


def _flattened(hidden: int) -> tuple[Row, ...]:
    """NNS1's and NNS2's head, whose parameters belong to one input size."""
    return (("concat", Flatten), ("fc1", Dense, hidden, True), ("fc2", Dense), ("L2", L2Normalise))


@dataclass(frozen=True)
class NetworkSpec:
    """A network of the paper: its name, its rows, the (rows, columns) of its input there, where 5x5 branches stay."""

    kind: str
    rows: tuple[Row, ...]
    input_size: tuple[int, int]
    five_by_five: str | None = None

    def without_5x5(self, keep: str) -> tuple[Row, ...]:
        """The rows; the 5x5 branches stay as `keep`, a key of WITHOUT_5X5, says."""
        dropped = WITHOUT_5X5[keep]
        return tuple((*row[:2], row[2].without_5x5()) if row[0] in dropped else row for row in self.rows)


_NN2 = _inception_network(TABLE_2, 64, _averaged())
NETWORKS: dict[str, NetworkSpec] = {
    "nn1": NetworkSpec("NN1", TABLE_1, (220, 220)),  # 140,025,664 parameters
    "nn2": NetworkSpec("NN2", _NN2, (224, 224), "all"),  # 7,456,304 parameters
    "nn3": NetworkSpec("NN2", _NN2, (160, 160), "all"),
    "nn4": NetworkSpec("NN2", _NN2, (96, 96), "lower"),
    "nns1": NetworkSpec("NNS1", _inception_network(NNS1_TABLE, 32, _flattened(1328)), (165, 165)),
    "nns2": NetworkSpec("NNS2", _inception_network(NNS2_TABLE, 16, _flattened(1264)), (140, 116)),
}


class Network(nn.Module):
    """A table's rows, one after another: float32 pixels [N, rows, columns, 3] -> float32 [N, d] of norm 1.

    Attributes:
      rows: the table.
      kind: what the network is called: NN1, NN2 (NN3 and NN4 too), NNS1 or NNS2.
      embedding_size: d, the width of the last Dense, which stays in float32.
      five_by_five: where 5x5 branches stayed in the rows, for those that have the choice.
      norm: one of NORMS; with 'weight' kernels are standardised and the table's response normalisation is left out.
      dtype: what the other layers compute in; parameters are float32.
    """

    rows: tuple[Row, ...]
    kind: str
    embedding_size: int = 128
    five_by_five: str | None = None
    norm: str = "response"
    dtype: DTypeLike = jnp.float32

    def __repr__(self) -> str:
        # Digests of embedders, which indexes and evaluations keep, are taken of this text: it must stay as it is.
        shown = ["embedding_size", *["five_by_five"] * (self.five_by_five is not None), "norm", "dtype"]
        lines = [f"    {field} = {getattr(self, field)!r}" for field in shown]
        return "\n".join([f"{self.kind}(", "    # attributes", *lines, ")"])

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        check_pixels(pixels)
        x = pixels
        for name, layer, *sizes in self.rows:
            if layer is LocalResponseNorm and self.norm != "response":
                continue
            if layer is Dense and not sizes:
                x = Dense(self.embedding_size, name=name)(x)
            elif layer in (Conv, Inception):
                x = layer(*sizes, norm=self.norm, dtype=self.dtype, name=name)(x)
            elif layer in (Dense, MaxoutDense):
                x = layer(*sizes, dtype=self.dtype, name=name)(x)
            else:
                x = layer(*sizes, name=name)(x)
        return x


class Ensemble(nn.Module):
    """Networks side by side: pixels [N, rows, columns, 3] -> float32 [N, d] of norm 1, each network's part of it.

    A member gives d / members coordinates of norm 1, and the embedding is all of them, divided by the root of members.
    So the squared distance of two faces is the mean of the members' squared distances.

    Attributes:
      member: the network, whose embedding size is d / members. Members differ by their initial parameters.
      members: how many there are.
    """

    member: Network
    members: int

    @property
    def dtype(self) -> DTypeLike:
        """What the members compute in."""
        return self.member.dtype

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        points = [self.member.clone(parent=self, name=f"member{number}")(pixels) for number in range(self.members)]
        return Join(name="join")(points)


def build(
    name: str,
    *,
    embedding_size: int = 128,
    dtype: str = "float32",
    five_by_five: str | None = None,
    norm: str = "response",
    members: int = 1,
) -> Network | Ensemble:
    """A network of the paper by name, a Flax module with random initial weights.

    Args:
      name: a key of NETWORKS: 'nn1', 'nn2', 'nn3', 'nn4', 'nns1' or 'nns2'.
      embedding_size: d, from 64 to 512 (Table 5).
      dtype: what the layers compute in, 'float32' or 'bfloat16'; parameters and embeddings are float32 with both.
      five_by_five: for NN2, NN3 and NN4 only: which 5x5 branches stay, 'all', 'lower' or 'none'; by default as in
        the paper. NN4 with 'none' is the network of Table 6.
      norm: what keeps activations in range, one of NORMS: 'response' as in the paper, or 'weight' (standardised
        kernels).
      members: networks that share the embedding between them, see `Ensemble`; 1: the network alone.

    Returns:
      A Flax module, float32 [N, rows, columns, 3] -> float32 [N, embedding_size] of norm 1.

    Raises:
      InputError: no such network, embedding size, dtype, choice of branches or norm, or the members cannot have equal
        shares of the embedding.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> network = build("nns2", embedding_size=64)
      >>> pixels = jnp.zeros((2, 32, 40, 3))  # in [-1, 1]
      >>> params = jax.jit(network.init)(jax.random.key(0), pixels)
      >>> jax.jit(network.apply)(params, pixels).shape
      (2, 64)

    Reference: Schroff et al. 2015, section 3.3.
    """
    if name not in NETWORKS:
        raise InputError(f"there is no network {name!r}; {_suggest(name, NETWORKS)}.")
    if not 64 <= embedding_size <= 512:
        raise InputError(f"an embedding of size {embedding_size} is out of range; choose from 64 to 512.")
    if dtype not in DTYPES:
        raise InputError(f"there is no compute dtype {dtype!r}; {_suggest(dtype, DTYPES)}.")
    spec = NETWORKS[name]
    if norm not in NORMS:
        raise InputError(f"there is no norm {norm!r}; {_suggest(norm, NORMS)}.")
    rows, keep = spec.rows, None
    if spec.five_by_five is not None:
        keep = spec.five_by_five if five_by_five is None else five_by_five
        if keep not in WITHOUT_5X5:
            raise InputError(f"five_by_five can't be {five_by_five!r}; {_suggest(str(five_by_five), WITHOUT_5X5)}.")
        rows = spec.without_5x5(keep)
    elif five_by_five is not None:
        raise InputError(f"{name} has no choice of 5x5 branches; leave five_by_five out or choose nn2, nn3 or nn4.")
    if members < 1 or embedding_size % members or embedding_size < SMALLEST_SHARE * members:
        raise InputError(
            f"an embedding of size {embedding_size} cannot be shared by {members} members; choose a number that "
            f"divides it and leaves each at least {SMALLEST_SHARE} dimensions."
        )
    network = Network(rows, spec.kind, embedding_size // members, keep, norm, dtype)
    return network if members == 1 else Ensemble(network, members)


def in_dtype(network: Network | Ensemble, dtype: DTypeLike) -> Network | Ensemble:
    """The same network, computing in another dtype."""
    if isinstance(network, Ensemble):
        return network.clone(member=network.member.clone(dtype=dtype))
    return network.clone(dtype=dtype)


def from_config(model: ConfigDict) -> Network | Ensemble:
    """The network of a config's `model`, whose input size is checked too.

    Raises:
      InputError: as `build`, or the input is too small.
    """
    check_input_size(*model.input_size)
    return build(
        model.name,
        embedding_size=model.embedding_size,
        dtype=model.dtype,
        five_by_five=model.five_by_five or None,
        norm=model.norm,
        members=model.members,
    )


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
    """Images [N, rows, columns, 3] -> float32 pixels in [-1, 1], what every network takes.

    Args:
      images: uint8; or float32 from 0 to 255, as faces are that were changed.
    """
    chex.assert_shape(images, (None, None, None, 3))
    if images.dtype != jnp.float32:
        chex.assert_type(images, jnp.uint8)
    return images.astype(jnp.float32) / 127.5 - 1.0


def apply_network(network: nn.Module, params: Any, images: jax.Array) -> jax.Array:
    """Images [n, rows, columns, 3], as `scale_pixels` takes them -> float32 [n, d] of norm 1."""
    points: jax.Array = network.apply({"params": params}, scale_pixels(images))  # type: ignore[assignment]
    return points


def apply_network_flipped(network: nn.Module, params: Any, images: jax.Array) -> jax.Array:
    """As `apply_network`: the mean of each image's point and its mirror image's, on the unit sphere."""
    both = apply_network(network, params, jnp.concatenate([images, images[:, :, ::-1]]))
    total = jnp.sum(both.reshape(2, images.shape[0], both.shape[1]), axis=0)
    points: jax.Array = L2Normalise().apply({}, total)  # type: ignore[assignment]
    return points


def _suggest(word: str, known: Iterable[str]) -> str:
    known = list(known)
    nearest = difflib.get_close_matches(str(word).lower(), known, n=1, cutoff=0.5)
    among = f"choose one of {', '.join(known)}"
    return f"did you mean {nearest[0]!r}? ({among})" if nearest else among
