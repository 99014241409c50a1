"""The runs of these tests use a small network, and share what is traced, compiled and drawn if it is the same."""

from functools import partial

import jax
import pytest

from facenet_jax import models
from facenet_jax.config import flatten
from facenet_jax.datasets.drawn import faces
from facenet_jax.evaluation import plots
from facenet_jax.models.networks import NETWORKS, NetworkSpec
from facenet_jax.training import embedding, loop, preflight
from networks import SMALL_ROWS

# Values of a config on which neither a step nor a first state depends. All others must agree for it to be shared.
ELSEWHERE = ("data.", "eval.", "checkpoint.", "log.", "offline.", "init_from")
CHANGES = ("data.flip", "data.augment.")
# Their other processes know only the real NNS2.
WITH_PROCESSES = ("test_kill", "test_processes")
SMALL = NetworkSpec("NNS2 with fewer rows", SMALL_ROWS, NETWORKS["nns2"].input_size)


@pytest.fixture(scope="module", autouse=True)
def made_once(request, shared):
    """Only for the tests of this folder: a fixture of a package would stay for the tests that the process runs next."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.stem not in WITH_PROCESSES:
            patch.setitem(NETWORKS, "nns2", SMALL)
        for module, name, function in shared:
            patch.setattr(module, name, function)
        yield


@pytest.fixture(scope="session")
def shared():
    """(module, name, function) of everything that these tests replace."""
    create_state, copies, save, pictures = _once(loop.create_state, _of_state), {}, plots.save, {}

    def shared_state(*given):
        state = create_state(*given)
        key = _of_state(*given)
        if key not in copies:  # a single program instead of one for every shape
            shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
            copies[key] = jax.jit(partial(jax.tree.map, jax.numpy.copy), out_shardings=shardings)
        return copies[key](state)  # a step overwrites its state's memory

    def shared_picture(figure, path):
        if path.name not in pictures:
            pictures[path.name] = save(figure, path).read_bytes()
        path.write_bytes(pictures[path.name])
        return path

    once = (
        (loop, "compile_step", _of_step),
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
    """The function, called only once for each key of its arguments."""
    found = {}

    def call(*given):
        if key(*given) not in found:
            found[key(*given)] = function(*given)
        return found[key(*given)]

    return call


def _of_step(config, network, optimizer, mesh, state, listed):
    values = {
        name: value
        for name, value in flatten(config).items()
        if name.startswith(CHANGES) or not name.startswith(ELSEWHERE)
    }
    if not config.optimizer.finalise_steps:
        del values["steps"]  # the rate does not depend on it
    return repr(sorted(values.items())), repr(network), listed


def _of_state(network, size, optimizer, mesh, *seed):
    return (repr(network), size, repr(jax.eval_shape(optimizer.init, jax.numpy.ones(1))), mesh, *seed)
