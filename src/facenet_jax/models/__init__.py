"""Pixels onto the unit sphere: the networks of section 3.3, as pure functions.

    network = build("nn4")
    parameters = network.init(jax.random.key(0), jnp.zeros((1, 96, 96, 3)))
    embeddings = network.apply(parameters, pixels)

Every network takes pixels in [-1, 1], float32 [N, rows, columns, 3], and gives float32 embeddings [N, d] of norm 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import flax.linen as nn
from ml_collections import ConfigDict

from facenet_jax.errors import InputError
from facenet_jax.models.describe import Row, describe, format_table, totals
from facenet_jax.models.layers import NORMS
from facenet_jax.models.nn1 import NN1
from facenet_jax.models.nn2 import NN2, WITHOUT_5X5
from facenet_jax.models.nns import NNS1, NNS2
from facenet_jax.models.pixels import check_input_size

__all__ = [
    "DTYPES",
    "NETWORKS",
    "NORMS",
    "NetworkSpec",
    "Row",
    "build",
    "check_input_size",
    "describe",
    "format_table",
    "from_config",
    "totals",
]


@dataclass(frozen=True)
class NetworkSpec:
    """A network of the paper: its module, the (rows, columns) of its input there, where its 5x5 branches stay."""

    module: type[nn.Module]
    input_size: tuple[int, int]
    five_by_five: str | None = None


NETWORKS: dict[str, NetworkSpec] = {
    "nn1": NetworkSpec(NN1, (220, 220)),
    "nn2": NetworkSpec(NN2, (224, 224), five_by_five="all"),
    "nn3": NetworkSpec(NN2, (160, 160), five_by_five="all"),
    "nn4": NetworkSpec(NN2, (96, 96), five_by_five="lower"),
    "nns1": NetworkSpec(NNS1, (165, 165)),
    "nns2": NetworkSpec(NNS2, (140, 116)),
}

DTYPES = ("float32", "bfloat16")


def build(
    name: str,
    *,
    embedding_size: int = 128,
    dtype: str = "float32",
    five_by_five: str | None = None,
    norm: str = "response",
) -> nn.Module:
    """A network of the paper by name.

    Args:
      name: a key of NETWORKS.
      embedding_size: d, from 64 to 512 (Table 5).
      dtype: what the layers compute in, 'float32' or 'bfloat16'; parameters and embeddings are float32 with both.
      five_by_five: for NN2, NN3 and NN4 only: which 5x5 branches stay, 'all', 'lower' or 'none'; by default as in
        the paper. NN4 with 'none' is the network of Table 6.

    Returns:
      A Flax module, float32 [N, rows, columns, 3] -> float32 [N, embedding_size] of norm 1.

    Raises:
      InputError: no such network, embedding size, dtype choice of branches or norm.
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
    options: dict[str, object] = {"embedding_size": embedding_size, "dtype": dtype, "norm": norm}
    if spec.five_by_five is not None:
        options["five_by_five"] = spec.five_by_five if five_by_five is None else five_by_five
        if options["five_by_five"] not in WITHOUT_5X5:
            raise InputError(f"five_by_five can't be {five_by_five!r}; {_suggest(str(five_by_five), WITHOUT_5X5)}.")
    elif five_by_five is not None:
        raise InputError(f"{name} has no choice of 5x5 branches; leave five_by_five out or choose nn2, nn3 or nn4.")
    return spec.module(**options)


def from_config(model: ConfigDict) -> nn.Module:
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
    )


def _suggest(word: str, known: Iterable[str]) -> str:
    known = list(known)
    nearest = difflib.get_close_matches(str(word).lower(), known, n=1, cutoff=0.5)
    among = f"choose one of {', '.join(known)}"
    return f"did you mean {nearest[0]!r}? ({among})" if nearest else among
