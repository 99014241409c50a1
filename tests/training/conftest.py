"""Runs of these tests that have the same step share its compiled program."""

import jax
import pytest

from facenet_jax.config import flatten
from facenet_jax.training import loop

# What no step or first state is made from. All other values of a config must agree for it to be shared.
ELSEWHERE = ("data.", "eval.", "checkpoint.", "log.", "offline.", "init_from")
CHANGES = ("data.flip", "data.augment.")


@pytest.fixture(scope="package", autouse=True)
def compiled_once():
    compile_step, create_state, steps, states = loop.compile_step, loop.create_state, {}, {}

    def shared_step(config, network, optimizer, mesh, state, listed):
        key = (_key(config), listed)
        if key not in steps:
            steps[key] = compile_step(config, network, optimizer, mesh, state, listed)
        return steps[key]

    def shared_state(network, size, optimizer, mesh, seed):
        key = (repr(network), size, repr(optimizer.init(jax.numpy.ones(1))), mesh, seed)
        if key not in states:
            states[key] = create_state(network, size, optimizer, mesh, seed)
        return jax.tree.map(jax.numpy.copy, states[key])  # a step takes its state's memory

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_step", shared_step)
        patch.setattr(loop, "create_state", shared_state)
        yield


def _key(config):
    values = {
        name: value
        for name, value in flatten(config).items()
        if name.startswith(CHANGES) or not name.startswith(ELSEWHERE)
    }
    if not config.optimizer.finalise_steps:
        del values["steps"]  # then no rate hangs on it
    return repr(sorted(values.items()))
