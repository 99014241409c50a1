"""TPU's own compiler compiles the step, for one slice and for two, without a TPU."""

import pytest

from facenet_jax.planning.program import compile_for
from tiny import TINY

pytest.importorskip("libtpu", reason="TPU's compiler is not installed: make setup EXTRAS=tpu")

RUN = [word for word in TINY if not word.startswith("--config.mesh")]


def test_one_slice_keeps_and_sends_what_simulated_devices_do():
    overrides = [*RUN, "--config.mesh.fsdp=4"]
    tpu, cpu = compile_for("quickstart", overrides, 4, "v5e:2x2"), compile_for("quickstart", overrides, 4)
    assert tpu.compiler == "TPU's compiler for v5e:2x2"
    assert (tpu.parameters, tpu.rows, tpu.state) == (cpu.parameters, cpu.rows, cpu.state)
    assert tpu.memory > tpu.state  # small arrays take more memory than on a CPU, since rows are padded to 128 numbers


def test_parameters_are_gathered_within_each_of_two_slices():
    found = compile_for("quickstart", [*RUN, "--config.mesh.fsdp=4"], 8, "v5e:2x2", slices=2)
    assert found.compiler == "TPU's compiler for 2 slices of v5e:2x2"
    small = 4 * found.rows * found.embedding_size  # the embeddings, which all devices gather
    assert {c.devices for c in found.collectives if c.kind == "all-gather" and c.size > small} == {4}
