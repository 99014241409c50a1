"""Selects the triplets of a batch: for a block of anchors, their positives and the negative of each (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from facenet_jax.runtime.mesh import on_cpu
from facenet_jax.triplets.device_hash import as_word, hash32
from facenet_jax.triplets.distances import ABSENT, CHUNK, LARGEST, any_between, bits, nearest, squared_distances, take

POSITIVES = ("all", "hardest")
NEGATIVES = ("semi_hard", "hardest", "random_semi_hard")
NO_SEMI_HARD = ("skip", "farthest")

# Anchors whose distances to the whole batch are held at once: on a CPU, and elsewhere in large batches. Not a matter of
# the mesh, so that memory does not depend on it.
ANCHOR_BLOCK = 128
# Elsewhere time goes by the number of kernels, and a block has as many anchors as this many distances allow: what 128
# anchors have in a batch of 65,536.
_MOST_DISTANCES = 2**23
# Positives of an anchor that are looked at together: while a piece of the distances lies in a CPU's cache; and all that
# the paper has of an identity.
_TOGETHER_ON_CPU, _TOGETHER = 10, 40

AxisName = str | tuple[str, ...]

# Masked rows get a label that no identity has, so that they are nobody's positive.
_NOBODY = jnp.iinfo(jnp.int32).max


@dataclass(frozen=True)
class Selection:
    """How triplets are selected within a batch; in all of it, equal distances are decided by the lowest index.

    Attributes:
      positives: `all`: every ordered anchor-positive pair, which the paper found more stable. `hardest`: the farthest
        face of the anchor's identity only.
      negatives: `semi_hard`: the nearest with D(a, p) < D(a, n), equation (3). `hardest`: the nearest of all, nearer
        than the positive or not; early in training this tends to collapse the embedding. `random_semi_hard`: any, with
        equal chances, among D(a, p) < D(a, n) < D(a, p) + margin; a draw is a function of (seed, step, anchor,
        positive).
      no_semi_hard: what becomes of a pair that has no such negative. `skip`: it gives no triplet, the paper taken
        literally; so a pair whose positive lies beyond all negatives, the worst there is, teaches nothing, and a
        collapsed embedding has a loss of 0. `farthest`: the farthest of the negatives that are too near, D(a, n) <=
        D(a, p), as TensorFlow Addons' triplet_semihard_loss does; such pairs keep pulling with a loss of at least the
        margin, so the loss does not vanish when the embedding collapses but stays at the margin, mislabelled faces
        pull hardest of all, and where there is no too-near negative either (`random_semi_hard`: all lie beyond the
        margin) the pair is skipped. Makes no difference to `hardest`.

    Raises:
      ValueError: a name that is not one of these.
    """

    positives: str = "all"
    negatives: str = "semi_hard"
    no_semi_hard: str = "skip"

    def __post_init__(self) -> None:
        for field, names in (("positives", POSITIVES), ("negatives", NEGATIVES), ("no_semi_hard", NO_SEMI_HARD)):
            if getattr(self, field) not in names:
                raise ValueError(f"{field} is {getattr(self, field)!r}; one of {', '.join(names)} is needed")


DEFAULT = Selection()


class Triplets(NamedTuple):
    """Triplets of one block of anchors, or of all of them; arrays of one shape.

    Attributes:
      positive: int32, index in the batch.
      negative: int32, index in the batch.
      is_pair: bool; False where the anchor has fewer positives than there are places.
      is_triplet: bool; pairs that found a negative.
      d_ap: float32, D(a, p).
      d_an: float32, D(a, n).
    """

    positive: jax.Array
    negative: jax.Array
    is_pair: jax.Array
    is_triplet: jax.Array
    d_ap: jax.Array
    d_an: jax.Array


class Exemplars(NamedTuple):
    """The whole batch as every device sees it, with rows of nobody added up to a multiple of a chunk.

    Attributes:
      points: float32 [B', d].
      labels: int32 [B'], _NOBODY in rows that take no part.
      by_label: int32 [B'], rows in order of label: the faces of an identity are one stretch of it, in order of index.
      sorted_labels: int32 [B'], labels[by_label].
    """

    points: jax.Array
    labels: jax.Array
    by_label: jax.Array
    sorted_labels: jax.Array


class Anchors(NamedTuple):
    """The anchors of one device, A of them, or of one block.

    Attributes:
      points: float32 [A, d].
      labels: int32 [A], _NOBODY in rows that take no part.
      rows: int32 [A], their places in the batch.
      start: int32 [A], where their identities begin in by_label.
      faces: int32 [A], the faces of that identity, the anchor included; 0 for an anchor that takes no part.
    """

    points: jax.Array
    labels: jax.Array
    rows: jax.Array
    start: jax.Array
    faces: jax.Array


class Tiling(NamedTuple):
    """How much is searched at once; what is found is the same with any.

    Attributes:
      anchors: of a block.
      together: positives of an anchor in a group.
    """

    anchors: int
    together: int


def tiling(rows: int, cpu: bool) -> Tiling:
    """For a batch of a number of rows, on a CPU or an accelerator."""
    if cpu:
        return Tiling(ANCHOR_BLOCK, _TOGETHER_ON_CPU)
    return Tiling(max(1, _MOST_DISTANCES // (ANCHOR_BLOCK * rows)) * ANCHOR_BLOCK, _TOGETHER)


class AnchorBlock(NamedTuple):
    """A block of anchors, and what selection asks of them.

    Attributes:
      anchors: the block's.
      distances: float32 [B', block].
      negative_key: uint32 [B', block], the bits of the distance of a negative, ABSENT elsewhere.
    """

    anchors: Anchors
    distances: jax.Array
    negative_key: jax.Array


def select_triplets(
    embeddings: jax.Array,
    labels: jax.Array,
    valid: jax.Array | None = None,
    *,
    margin: float | jax.Array = 0.2,
    selection: Selection = DEFAULT,
    faces_per_identity: int | None = None,
    mesh: Mesh | None = None,
    axis_name: AxisName | None = None,
    seed: int | jax.Array = 0,
    step: int | jax.Array = 0,
) -> Triplets:
    """The triplets whose loss `triplet_loss` takes, by their rows in the batch.

    By default, for each anchor a and each positive p, the semi-hard negative of section 3.2:

      argmin over n of D(a, n), where D(a, n) > D(a, p) and n is of another identity

    Args:
      embeddings: [B, d], unit vectors; taken as float32.
      labels: integers [B], the identity of each face; any order, any counts.
      valid: bool [B]; rows that are False take no part. By default all do.
      margin: alpha of equation (1); only `random_semi_hard` uses it.
      selection: which positives, which negatives; see Selection.
      faces_per_identity: no identity has more faces in the batch than this; positives beyond it are left out. By
        default B, for which the result is about [B, B]: give it for large batches.
      mesh: as for `triplet_loss`.
      axis_name: likewise.
      seed: what random negatives are drawn with, together with step; lowest 32 bits.
      step: likewise.

    Returns:
      Triplets, arrays [B, K], a line for each anchor, K at least faces_per_identity; entries that are no
      anchor-positive pair have `is_pair` False.

    Examples:
      >>> import jax.numpy as jnp
      >>> points = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [-1.0, 0.0]])
      >>> found = select_triplets(points, jnp.array([7, 7, 8, 9]))
      >>> [(a, int(found.positive[a, k]), int(found.negative[a, k])) for a, k in zip(*found.is_triplet.nonzero())]
      [(Array(0, dtype=int32), 1, 2), (Array(1, dtype=int32), 0, 3)]

    Reference: Schroff et al. 2015, section 3.2, equation (3).
    """
    axes = axes_of(mesh, axis_name)
    body = partial(_select_on_one_device, selection=selection, most_faces=faces_per_identity)
    return on_whole_batch(body, P(axes), axes, mesh, embeddings, labels, valid, margin, seed, step)


def _select_on_one_device(
    anchors: Anchors,
    exemplars: Exemplars,
    tiling: Tiling,
    margin: jax.Array,
    *draw: jax.Array,
    selection: Selection,
    most_faces: int | None,
) -> Triplets:
    most_faces = exemplars.labels.shape[0] if most_faces is None else most_faces
    together = min(tiling.together, most_faces)  # no more places than there can be positives
    each = jnp.arange(groups(selection, together, most_faces))

    def of_block(block: AnchorBlock) -> Triplets:
        chosen = jax.lax.map(lambda group: choose(exemplars, block, group, together, selection, margin, draw), each)
        return jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]).T, chosen)

    return each_block(of_block, anchors, exemplars, tiling)


def axes_of(mesh: Mesh | None, axis_name: AxisName | None) -> tuple[str, ...]:
    """The mesh axes that rows are divided over: all of a mesh's, or those of the shard_map around; () for none.

    Raises:
      ValueError: both are given, or neither inside a shard_map.
    """
    if mesh is not None and axis_name is not None:
        raise ValueError("mesh and axis_name are both given; give mesh outside of shard_map, axis_name inside")
    if mesh is not None:
        return tuple(mesh.axis_names)
    manual = jax.sharding.get_abstract_mesh().manual_axes
    if axis_name is None and manual:
        raise ValueError(
            f"the batch is inside a shard_map over {', '.join(manual)}; give as axis_name which of these its rows are "
            "divided over, so that triplets come from the whole batch"
        )
    return (axis_name,) if isinstance(axis_name, str) else tuple(axis_name or ())


def on_whole_batch(
    body: Callable[..., Any],
    out_specs: Any,
    axes: tuple[str, ...],
    mesh: Mesh | None,
    embeddings: jax.Array,
    labels: jax.Array,
    valid: jax.Array | None,
    margin: float | jax.Array = 0.0,
    seed: int | jax.Array = 0,
    step: int | jax.Array = 0,
) -> Any:
    """Runs body(anchors, exemplars, tiling, margin, seed, step) on each device: its rows as anchors, all as exemplars.

    Without a mesh it is the program around that is divided, or not: a shard_map over `axes`, or a jit, in which the
    compiler divides the work as the embeddings are divided.

    Raises:
      ValueError: shapes or types that do not go together.
    """
    embeddings, labels = jnp.asarray(embeddings), jnp.asarray(labels)
    valid = jnp.ones(labels.shape, bool) if valid is None else jnp.asarray(valid)
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1] or valid.shape != labels.shape:
        raise ValueError(
            f"embeddings are {list(embeddings.shape)}, labels {list(labels.shape)} and valid {list(valid.shape)}; "
            "[B, d], [B] and [B] are needed"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer) or valid.dtype != bool:
        raise ValueError(f"labels are {labels.dtype} and valid is {valid.dtype}; integers and bool are needed")
    if mesh is not None and labels.shape[0] % mesh.size:
        raise ValueError(
            f"{labels.shape[0]} rows cannot be divided over {mesh.size} devices; add rows whose valid is False"
        )

    def on_one_device(points: jax.Array, labels: jax.Array, valid: jax.Array, *numbers: jax.Array) -> Any:
        cpu = jax.default_backend() == "cpu" if mesh is None else on_cpu(mesh)
        anchors, exemplars = gather(points, labels, valid, axes, cpu)
        return body(anchors, exemplars, tiling(exemplars.labels.shape[0], cpu), *numbers)

    # What stands in a masked row could be anything, and 0 x anything would be 0 but for NaN.
    rows = jnp.where(valid[:, None], embeddings.astype(jnp.float32), 0.0), labels.astype(jnp.int32), valid
    numbers = jnp.asarray(margin, jnp.float32), as_word(seed), as_word(step)
    if mesh is None:
        return on_one_device(*rows, *numbers)
    own, same = P(axes), P()
    if AxisType.Explicit in mesh.axis_types:
        rows, numbers = (jax.reshard(x, NamedSharding(mesh, where)) for x, where in ((rows, own), (numbers, same)))
    in_specs = (own, own, own, same, same, same)
    return jax.shard_map(on_one_device, mesh=mesh, in_specs=in_specs, out_specs=out_specs)(*rows, *numbers)


def gather(
    points: jax.Array, labels: jax.Array, valid: jax.Array, axes: tuple[str, ...], cpu: bool
) -> tuple[Anchors, Exemplars]:
    """One device's rows, [A, d], as anchors, and the rows of all devices; two all-gathers."""
    labels = jnp.where(valid, labels, _NOBODY)
    all_points, all_labels, first = points, labels, jnp.int32(0)
    if axes:
        all_points = jax.lax.all_gather(points, axes, tiled=True)
        all_labels = jax.lax.all_gather(labels, axes, tiled=True)
        first = jax.lax.axis_index(axes) * labels.shape[0]
    more = -all_labels.shape[0] % CHUNK
    all_points = jnp.pad(all_points, ((0, more), (0, 0)))
    all_labels = jnp.pad(all_labels, (0, more), constant_values=_NOBODY)
    by_label = jnp.argsort(all_labels, stable=True).astype(jnp.int32)
    exemplars = Exemplars(all_points, all_labels, by_label, all_labels[by_label])

    rows = first + jnp.arange(labels.shape[0], dtype=jnp.int32)
    # Bisection is a loop of kernels; comparing all labels is one.
    search = partial(jnp.searchsorted, exemplars.sorted_labels, labels, method="scan" if cpu else "compare_all")
    start, end = search(side="left").astype(jnp.int32), search(side="right").astype(jnp.int32)
    return Anchors(points, labels, rows, start, jnp.where(valid, end - start, 0)), exemplars


def blocks_of(anchors: Anchors, tiling: Tiling) -> tuple[jax.Array, jax.Array]:
    """Which of a device's anchors form blocks, [blocks, block] int32, and False where the last one is filled up.

    They go by identity, so that a block holds few identities and loops no more often than its largest asks.
    """
    which = jnp.argsort(anchors.labels, stable=True).astype(jnp.int32)
    block = min(tiling.anchors, which.shape[0])
    padding = -which.shape[0] % block
    real = jnp.pad(jnp.ones_like(which, bool), (0, padding))
    return jnp.pad(which, (0, padding)).reshape(-1, block), real.reshape(-1, block)


def each_block(of_block: Callable[[AnchorBlock], Any], anchors: Anchors, exemplars: Exemplars, tiling: Tiling) -> Any:
    """of_block's arrays, [block, ...], for each block of a device's anchors, joined in the order of the anchors."""
    which, real = blocks_of(anchors, tiling)
    found = jax.lax.map(lambda inputs: of_block(block_distances(anchors, exemplars, *inputs)), (which, real))
    # Back from the order by identity; what fills the last block up comes last.
    order = jnp.argsort(which.ravel()[: anchors.rows.shape[0]])
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[order], found)


def block_distances(anchors: Anchors, exemplars: Exemplars, which: jax.Array, real: jax.Array) -> AnchorBlock:
    """Distances of a block of a device's anchors, [block], to the batch, and which of them are to negatives."""
    block = Anchors(*(x[which] for x in anchors))
    block = block._replace(faces=jnp.where(real, block.faces, 0))
    distances = squared_distances(exemplars.points, block.points)
    labels = exemplars.labels[:, None]
    is_negative = (labels != block.labels) & (labels != _NOBODY) & (block.faces > 0)
    return AnchorBlock(block, distances, jnp.where(is_negative, bits(distances), jnp.uint32(ABSENT)))


def sum_of_negatives(exemplars: Exemplars, block: AnchorBlock) -> tuple[jax.Array, jax.Array]:
    """The sum of D(a, n) over all negatives of a block, and how many they are; float32 scalars."""
    faces = block.anchors.faces
    others = jnp.where(faces > 0, jnp.sum(exemplars.labels != _NOBODY) - faces, 0)
    distances = jnp.where(block.negative_key == ABSENT, 0.0, block.distances)
    return jnp.sum(distances), jnp.sum(others, dtype=jnp.float32)


def groups(selection: Selection, together: int, most_faces: int | jax.Array) -> int | jax.Array:
    """How many groups `choose` has, for anchors of identities with at most that many faces."""
    return 1 if selection.positives == "hardest" else (most_faces + together - 1) // together


def choose(
    exemplars: Exemplars,
    block: AnchorBlock,
    group: int | jax.Array,
    together: int,
    selection: Selection,
    margin: jax.Array,
    draw: tuple[jax.Array, ...],
) -> Triplets:
    """The triplets of a block of anchors with some of their positives.

    Args:
      exemplars: the batch.
      block: the anchors.
      group: which of their positives: 0 <= group < groups(...).
      together: positives of an anchor in a group.
      selection: how.
      margin: alpha of equation (1); only a random choice asks for it.
      draw: seed and step, uint32, of a random choice.

    Returns:
      Triplets, arrays [positives, block].
    """
    if selection.positives == "hardest":
        positive, is_pair = _farthest_positive(exemplars, block)
    else:
        place = group * together + jnp.arange(together, dtype=jnp.int32)[:, None]
        last = exemplars.by_label.shape[0] - 1
        positive = exemplars.by_label[jnp.minimum(block.anchors.start + place, last)]
        is_pair = (place < block.anchors.faces) & (positive != block.anchors.rows)
    d_ap = take(block.distances, positive)

    if selection.negatives == "hardest":
        negative, found = nearest(block.negative_key, jnp.zeros(d_ap.shape, jnp.uint32))
    elif selection.negatives == "semi_hard":
        negative, found = nearest(block.negative_key, bits(d_ap) + 1)
    else:
        chance = hash32(*draw, block.anchors.rows, positive)
        negative, found = any_between(block.negative_key, bits(d_ap) + 1, bits(d_ap + margin), chance)
    if selection.no_semi_hard == "farthest" and selection.negatives != "hardest":
        # Distances counted downwards from the largest float: the nearest to the floor is the farthest below D(a, p).
        downwards = jnp.where(block.negative_key == ABSENT, block.negative_key, LARGEST - block.negative_key)
        too_near, any_too_near = nearest(downwards, LARGEST - bits(d_ap))
        negative, found = jnp.where(found, negative, too_near), found | any_too_near
    return Triplets(positive, negative, is_pair, is_pair & found, d_ap, take(block.distances, negative))


def positives_of(exemplars: Exemplars, block: AnchorBlock) -> jax.Array:
    """Which exemplars are positives of each anchor, bool [B', block]."""
    row = jnp.arange(exemplars.labels.shape[0], dtype=jnp.int32)[:, None]
    label = exemplars.sorted_labels[block.anchors.start]
    return (exemplars.labels[:, None] == label) & (row != block.anchors.rows) & (block.anchors.faces > 0)


def _farthest_positive(exemplars: Exemplars, block: AnchorBlock) -> tuple[jax.Array, jax.Array]:
    """The farthest face of each anchor's identity, [1, block], and whether there is one."""
    is_positive = positives_of(exemplars, block)
    key = jnp.where(is_positive, LARGEST - bits(block.distances), jnp.uint32(ABSENT))
    return nearest(key, jnp.zeros((1, key.shape[1]), jnp.uint32))
