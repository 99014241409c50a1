"""Collectives and traffic read from programs: compiled ones with known numbers, and a text in the form of TPU's."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from facenet_jax.planning.hlo import Collective, collectives, memory_traffic
from facenet_jax.runtime.mesh import BATCH_AXES, make_mesh, over_batch
from facenet_jax.triplets import triplet_loss_and_gradient
from programs import FUSED_AS_USERS


@pytest.mark.parametrize("devices", [2, 8])
def test_each_kind_and_how_often_it_runs(devices):
    mesh = make_mesh(devices)

    def body(x):  # [rows, 16] on each device
        everybody = jax.lax.all_gather(x, BATCH_AXES, tiled=True)

        def once(total, _):
            return total + jax.lax.psum(x * total[0], BATCH_AXES)[:, :1].sum(), None

        total, _ = jax.lax.scan(once, jnp.ones((1,)), None, length=5)
        return jax.lax.psum_scatter(everybody * total, BATCH_AXES, tiled=True)

    run = jax.jit(jax.shard_map(body, mesh=mesh, in_specs=P(BATCH_AXES), out_specs=P(BATCH_AXES), check_vma=False))
    rows = jax.ShapeDtypeStruct((4 * devices, 16), jnp.float32, sharding=over_batch(mesh))
    found = collectives(run.lower(rows).compile(compiler_options=FUSED_AS_USERS).as_text())
    own, whole = 4 * 16 * 4, 4 * 16 * 4 * devices
    assert sorted(found, key=lambda c: c.kind) == [
        Collective("all-gather", whole, devices),
        Collective("all-reduce", own, devices, times=5),
        Collective("reduce-scatter", whole, devices),
    ]


def test_groups_along_one_axis():
    mesh = make_mesh(4, 2)  # data x fsdp
    shapes = [
        jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=NamedSharding(mesh, P(BATCH_AXES))),
        jax.ShapeDtypeStruct((32, 16), jnp.float32, sharding=NamedSharding(mesh, P("fsdp"))),
    ]
    text = jax.jit(lambda rows, kernel: rows @ kernel).lower(*shapes).compile(compiler_options=FUSED_AS_USERS).as_text()
    assert collectives(text) == [Collective("all-gather", 32 * 16 * 4, 2)]


def test_what_is_sent():
    assert Collective("all-gather", 800, 8).sent == 700
    assert Collective("reduce-scatter", 800, 8, times=3).sent == 2100
    assert Collective("all-reduce", 800, 8).sent == 1400
    assert Collective("collective-permute", 800, 8).sent == 800


def test_the_loss_sends_the_embeddings_and_their_gradient_once():
    mesh = make_mesh(8)
    rows = over_batch(mesh)
    arguments = [
        jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=rows),
        jax.ShapeDtypeStruct((64,), jnp.int32, sharding=rows),
        jax.ShapeDtypeStruct((64,), jnp.bool_, sharding=rows),
    ]
    step = jax.jit(lambda *a: triplet_loss_and_gradient(*a, mesh=mesh))
    found = {
        (c.kind, c.size) for c in collectives(step.lower(*arguments).compile(compiler_options=FUSED_AS_USERS).as_text())
    }
    assert {("all-gather", 64 * 128 * 4), ("all-gather", 64 * 4), ("reduce-scatter", 64 * 128 * 4)} <= found
    assert all(size < 256 for kind, size in found if kind == "all-reduce")


def test_traffic_is_inputs_and_results():
    n = 2**20
    add = (
        jax.jit(lambda a, b: a + b)
        .lower(*[jax.ShapeDtypeStruct((n,), jnp.float32)] * 2)
        .compile(compiler_options=FUSED_AS_USERS)
        .as_text()
    )
    assert memory_traffic(add) == 3 * 4 * n
    square = jax.ShapeDtypeStruct((256, 256), jnp.float32)

    def of_loop(times):
        several = jax.jit(lambda a: jax.lax.fori_loop(0, times, lambda _, x: jnp.sin(x) @ x, a))
        return memory_traffic(several.lower(square).compile(compiler_options=FUSED_AS_USERS).as_text())

    once = of_loop(8) - of_loop(7)
    assert of_loop(20) - of_loop(8) == 12 * once
    # Each iteration reads x, writes its sine, reads both, writes the product, and at most copies the carried array.
    assert 5 * 4 * 256**2 <= once <= 7 * 4 * 256**2 + 64


TPU = """
HloModule jit_step, num_partitions=16

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%inside (p: f32[1024,128]) -> f32[64,128] {
  %p = f32[1024,128]{1,0:T(8,128)} parameter(0)
  %r = f32[1024,128]{1,0:T(8,128)} all-reduce(%p), replica_groups=[2,8]<=[16], to_apply=%add
  ROOT %s = f32[64,128]{1,0:T(8,128)S(1)} slice(%r), slice={[0:64], [0:128]}
}

ENTRY %main (a: f32[64,128], b: f32[1024,128]) -> f32[64,128] {
  %a = f32[64,128]{1,0:T(8,128)} parameter(0)
  %b = f32[1024,128]{1,0:T(8,128)} parameter(1)
  %near-start = (f32[64,128]{1,0:T(8,128)S(1)}, f32[64,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%a)
  %near = f32[64,128]{1,0:T(8,128)S(1)} copy-done(%near-start)
  %all-start = (f32[64,128]{1,0}, f32[1024,128]{1,0}) all-gather-start(%a), replica_groups={{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}}, dimensions={0}
  %all = f32[1024,128]{1,0} all-gather-done(%all-start)
  %part = f32[64,128]{1,0:T(8,128)S(1)} fusion(%b), kind=kCustom, calls=%inside
  ROOT %end = f32[64,128]{1,0:T(8,128)} add(%near, %part)
}
"""  # noqa: E501


def test_a_program_for_tpu():
    # In two halves, within a fusion, with groups given by their number.
    assert collectives(TPU) == [
        Collective("all-gather", 1024 * 128 * 4, 16),
        Collective("all-reduce", 1024 * 128 * 4, 8),
    ]
    small, large = 64 * 128 * 4, 1024 * 128 * 4
    # The copy once; the gather's operand and both of its results; the fusion's input; the sum's result.
    assert memory_traffic(TPU) == small + (small + small + large) + large + small
