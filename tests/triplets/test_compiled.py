"""The compiled program of the loss and its gradient: collectives, sizes of arrays, memory. Nothing is run."""

import math
import re
from functools import cache

import jax
import jax.numpy as jnp
import pytest

from facenet_jax.runtime.mesh import make_mesh, over_batch
from facenet_jax.triplets import Selection, triplet_loss
from facenet_jax.triplets.selection import ANCHOR_BLOCK
from programs import FUSED_AS_USERS

SIZE = 32
COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|collective-broadcast)(?:-start)?\("
)


@cache
def compiled(batch, devices, size=SIZE, selection=Selection()):  # noqa: B008
    mesh = make_mesh(devices)
    loss = jax.value_and_grad(
        lambda e, labels, valid: triplet_loss(e, labels, valid, mesh=mesh, selection=selection), has_aux=True
    )
    rows = over_batch(mesh)
    shapes = [
        jax.ShapeDtypeStruct((batch, size), jnp.float32, sharding=rows),
        jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=rows),
        jax.ShapeDtypeStruct((batch,), jnp.bool_, sharding=rows),
    ]
    return jax.jit(loss).lower(*shapes).compile(compiler_options=FUSED_AS_USERS)


def array_sizes(text):
    """The numbers of elements of all arrays in a piece of HLO."""
    found = re.findall(r"\b(?:pred|[suf]\d+|bf16)\[([\d,]*)\]", text)
    return [math.prod(int(n) for n in shape.split(",") if n) for shape in found]


def test_embeddings_and_labels_are_gathered_once_and_the_gradient_reduced_once():
    batch, devices = 2048, 8
    gathers, reductions = [], []
    for result, operation in COLLECTIVE.findall(compiled(batch, devices).as_text()):
        if operation == "all-gather":
            gathers += array_sizes(result)
        else:
            assert operation in ("all-reduce", "reduce-scatter")
            reductions += array_sizes(result)
    assert sorted(gathers) == [batch, batch * SIZE]
    large = [size for size in reductions if size > 16]
    assert large in ([batch * SIZE // devices], [batch * SIZE])


@pytest.mark.parametrize("devices", [1, 8])
def test_arrays_and_temporaries_grow_with_the_batch_and_not_with_its_square(devices):
    small, large = (compiled(batch, devices) for batch in (2048, 8192))
    for program, batch in ((small, 2048), (large, 8192)):
        # Arrays within a fusion, which are never stored, hold several positives for each distance of a block.
        assert max(array_sizes(program.as_text())) <= 16 * ANCHOR_BLOCK * batch
    temporaries = [program.memory_analysis().temp_size_in_bytes for program in (small, large)]
    assert temporaries[0] < 4 * (8 * ANCHOR_BLOCK + 8 * SIZE) * 2048
    assert temporaries[1] < 4.1 * temporaries[0]


@pytest.mark.parametrize(
    "selection",
    [Selection(), Selection("hardest", "random_semi_hard", "farthest")],
    ids=["default", "the one that needs most"],
)
def test_the_papers_batch_takes_less_than_64_mib(selection):
    assert compiled(1800, 1, 128, selection).memory_analysis().temp_size_in_bytes < 64 * 2**20


@pytest.mark.parametrize("negatives", ["semi_hard", "random_semi_hard"])
def test_on_an_accelerator_the_papers_batch_is_one_block_and_one_loop(negatives, monkeypatch):
    selection = Selection(negatives=negatives)
    on_cpu = loops(compiled(1800, 1, 128, selection))
    monkeypatch.setattr("facenet_jax.triplets.selection.on_cpu", lambda mesh: False)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *values, cpu, default: default(*values))
    program = compiled.__wrapped__(1800, 1, 128, selection)
    # Each iteration of a loop launches its own kernels. The one loop left, over groups of 40 positives, has one.
    assert loops(program) == 1 < on_cpu
    assert program.memory_analysis().temp_size_in_bytes < 128 * 2**20


def loops(program):
    return len(re.findall(r" while\(", program.as_text()))
