"""Where decoded faces are kept, and the reason that is printed."""

from types import SimpleNamespace

import numpy as np
import pytest

from facenet_jax.config import default_config
from facenet_jax.datasets.drawn import DrawnFaces
from facenet_jax.errors import InputError
from facenet_jax.runtime.mesh import make_mesh
from facenet_jax.training import kept_pixels
from facenet_jax.training.kept_pixels import choose
from facenet_jax.training.preflight import Estimate

MIB = 2**20
FACES = 40 * 20
NEEDED = FACES * (32 * 32 * 3 + 1)


def chosen(monkeypatch, asked, free, step_needs=0, on_device=0, **values):
    config = default_config()
    config.data.cache, config.model.input_size, config.batch.size = asked, (32, 32), 16
    config.update_from_flattened_dict(values)
    monkeypatch.setattr(kept_pixels, "host_bytes_available", lambda: free)
    faces = SimpleNamespace(train=DrawnFaces(0, 40, 20), train_identities=np.arange(40))
    return choose(config, faces, make_mesh(1), Estimate(10**6, 10**9, step_needs, on_device, 1.0))


def test_auto_uses_half_of_the_memory_that_the_step_leaves_free(monkeypatch):
    assert chosen(monkeypatch, "auto", 2 * NEEDED).where == "host"
    assert chosen(monkeypatch, "auto", 2 * NEEDED - 2).where == "none"
    assert chosen(monkeypatch, "none", 2 * NEEDED).where == "none"


def test_the_step_needs_its_memory_first(monkeypatch):
    mesh = make_mesh(1)
    taken = MIB * len(mesh.local_devices)
    assert chosen(monkeypatch, "auto", 2 * NEEDED + taken, MIB).where == "host"
    assert chosen(monkeypatch, "auto", 2 * NEEDED + taken - 2, MIB).where == "none"


def test_host_uses_all_free_memory_and_is_refused_beyond(monkeypatch):
    assert chosen(monkeypatch, "host", NEEDED).where == "host"
    assert chosen(monkeypatch, "host", None).where == "host"
    with pytest.raises(InputError, match=r"data\.cache=host: 800 decoded faces take 2\.3 MiB of the 1\.0 MiB that"):
        chosen(monkeypatch, "host", MIB)


def test_the_description_names_the_choice_and_its_reason(monkeypatch):
    assert "kept in memory, each decoded once (2.3 MiB of the 16.0 MiB that the step leaves free)" in (
        chosen(monkeypatch, "auto", 16 * MIB).describe()
    )
    assert "not kept, decoded for each batch (they would take 2.3 MiB of the 1.0 MiB that the step leaves free)" in (
        chosen(monkeypatch, "auto", MIB).describe()
    )
    assert "(data.cache=none)" in chosen(monkeypatch, "none", MIB).describe()
    assert "cannot be determined" in chosen(monkeypatch, "auto", None).describe()


ON_DEVICE = 32 * 32 * 3 * (2 * FACES + 2 * 16)  # all faces, a block of them being copied, and two batches


def test_auto_prefers_half_of_an_accelerators_free_memory(monkeypatch):
    assert chosen(monkeypatch, "auto", 2 * NEEDED, on_device=10**9).where == "host"  # a CPU's memory is the host's
    monkeypatch.setattr(kept_pixels, "on_cpu", lambda mesh: False)
    assert chosen(monkeypatch, "auto", 2 * NEEDED, MIB, 2 * ON_DEVICE + MIB).where == "device"
    assert chosen(monkeypatch, "auto", 2 * NEEDED, MIB, 2 * ON_DEVICE + MIB - 2).where == "host"
    assert chosen(monkeypatch, "auto", 2 * NEEDED, MIB, None).where == "host"
    zoomed = {"data.augment.zoom": 0.1}  # the step zooms, wherever faces are kept
    assert chosen(monkeypatch, "auto", 2 * NEEDED, MIB, 2 * ON_DEVICE + MIB, **zoomed).where == "device"


def test_device_uses_all_free_memory_and_is_refused_beyond(monkeypatch):
    assert chosen(monkeypatch, "device", 0, MIB, ON_DEVICE + MIB).where == "device"
    with pytest.raises(InputError, match=r"data\.cache=device: 800 decoded faces take 4\.8 MiB of the 1\.0 MiB that"):
        chosen(monkeypatch, "device", 0, MIB, 2 * MIB)
    assert chosen(monkeypatch, "device", 0, MIB, ON_DEVICE + MIB, **{"data.augment.zoom": 0.1}).where == "device"
    text = chosen(monkeypatch, "device", 0, MIB, 9 * MIB).describe()
    assert "kept on every device, each decoded once (4.8 MiB of the 8.0 MiB that the step leaves free)" in text
