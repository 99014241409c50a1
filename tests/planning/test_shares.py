"""What a device is said to hold, against what arrays on eight of them hold."""

import jax
import numpy as np
import pytest

from facenet_jax import models
from facenet_jax.cli import main
from facenet_jax.config import default_config
from facenet_jax.errors import InputError
from facenet_jax.mesh import make_mesh
from facenet_jax.planning.shares import share, shares
from facenet_jax.training.optimizer import make_optimizer
from facenet_jax.training.state import abstract_state


@pytest.mark.parametrize(("data", "fsdp"), [(1, 1), (8, 1), (4, 2), (1, 8)])
def test_devices_hold_what_is_said(data, fsdp):
    network = models.build("nns2", embedding_size=64)
    shapes = abstract_state(network, (64, 64), make_optimizer(default_config()), make_mesh(data, fsdp))
    state = jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), shapes)
    found = shares(network, (64, 64), data, fsdp)
    for name, tree in (("parameters", state.params), ("AdaGrad's sums", state.opt_state)):
        held = {device: [0, 0] for device in make_mesh(data, fsdp).devices.flat}
        for x in jax.tree.leaves(tree):
            for shard in x.addressable_shards:
                held[shard.device][shard.data.shape != x.shape] += shard.data.nbytes
        assert set(map(tuple, held.values())) == {(found[name].replicated, found[name].divided)}
        assert found[name].whole == sum(x.nbytes for x in jax.tree.leaves(tree))
        assert (found[name].divided > 0) == (fsdp > 1)
        assert share(tree) == found[name]


def test_the_command_says_it(capsys):
    assert main(["describe", "nn1", "--mesh", "data=4,fsdp=2"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[-5].startswith("mesh of 4 x 2 = 8 devices")
    cells = {line.rsplit("MiB", 1)[0].split("  ")[0]: line.split()[-6:] for line in table[-3:]}
    assert cells["parameters"][0] == "560,102,656"  # 140,025,664 numbers of four bytes
    on_each = int(cells["parameters"][3].replace(",", ""))
    assert 0.5 < on_each / 560_102_656 < 0.51


def test_bad_meshes_are_one_sentence(capsys):
    with pytest.raises(InputError, match="two numbers from 1 on"):
        shares(models.build("nns2"), (64, 64), 0, 2)
    for words in ("4x2", "data=a", "rows=2"):
        with pytest.raises(SystemExit):
            main(["describe", "nn1", "--mesh", words])
        assert "is not of the form data=4,fsdp=2" in capsys.readouterr().err
