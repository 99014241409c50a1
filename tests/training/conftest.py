"""Runs of these tests that have the same network and step share what is traced, compiled and drawn."""

from functools import partial

import jax
import pytest

from facenet_jax import models
from facenet_jax.config import flatten
from facenet_jax.datasets.drawn import faces
from facenet_jax.evaluation import plots
from facenet_jax.training import embedding, loop, preflight

# What no step or first state is made from. All other values of a config must agree for it to be shared.
ELSEWHERE = ("data.", "eval.", "checkpoint.", "log.", "offline.", "init_from")
CHANGES = ("data.flip", "data.augment.")


@pytest.fixture(scope="module", autouse=True)
def made_once(shared):
    """For the tests of this folder alone: a package's fixture would stay for whatever the process runs next."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, function in shared:
            patch.setattr(module, name, function)
        yield


@pytest.fixture(scope="session")
def shared():
    """(module, name, function): what each name is in these tests."""
    create_state, copies, save, pictures = _once(loop.create_state, _of_state), {}, plots.save, {}

    def shared_state(*given):
        state = create_state(*given)
        key = _of_state(*given)
        if key not in copies:  # one program in place of one for every shape
            shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
            copies[key] = jax.jit(partial(jax.tree.map, jax.numpy.copy), out_shardings=shardings)
        return copies[key](state)  # a step takes its state's memory

    def shared_picture(figure, path):
        if path.name not in pictures:
            pictures[path.name] = save(figure, path).read_bytes()
        path.write_bytes(pictures[path.name])
        return path

    once = (
        (loop, "compile_step", lambda config, network, optimizer, mesh, state, listed: (_of_step(config), listed)),
        (loop, "abstract_state", _of_state),
        (models, "totals", lambda network, size: (repr(network), size)),
        (embedding, "make_embed", lambda network, *mesh: (repr(network), *mesh)),
        (embedding, "announced", lambda embed, what: embed),
        (faces, "render", lambda *face: face),
        (preflight, "matrix_product_rate", lambda *where: where),
    )
    return [
        (loop, "create_state", shared_state),
        (plots, "save", shared_picture),
        *((module, name, _once(getattr(module, name), key)) for module, name, key in once),
    ]


def _once(function, key):
    """The function, called once for each key of what it is given."""
    found = {}

    def call(*given):
        if key(*given) not in found:
            found[key(*given)] = function(*given)
        return found[key(*given)]

    return call


def _of_step(config):
    values = {
        name: value
        for name, value in flatten(config).items()
        if name.startswith(CHANGES) or not name.startswith(ELSEWHERE)
    }
    if not config.optimizer.finalise_steps:
        del values["steps"]  # then no rate hangs on it
    return repr(sorted(values.items()))


def _of_state(network, size, optimizer, mesh, *seed):
    return (repr(network), size, repr(jax.eval_shape(optimizer.init, jax.numpy.ones(1))), mesh, *seed)
