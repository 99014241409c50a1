"""Gives every test process eight simulated devices and a cache of compiled programs."""

import gc
import os
from pathlib import Path

from programs import quick_flags

# Set before JAX is imported, and inherited by the processes that tests start. The last of two flags of a name wins.
os.environ["XLA_FLAGS"] = (
    f"{quick_flags()} {os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
)
os.environ["JAX_PLATFORMS"] = "cpu"
# Compiled programs are kept between runs of the tests, in pytest's cache folder.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

# Compiling takes longer than any deadline, and machines are shared.
settings.register_profile(
    "repository", deadline=None, max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repository")

# The slowest files start first, so that no process is left alone with one of them at the end. Files of a folder follow
# each other, so that shared fixtures are made once.
SLOWEST = (
    *(f"training/test_{name}.py" for name in ("processes", "loop", "step", "kill", "offline_selection")),
    *("runtime/test_compiled.py", "triplets/test_selection.py", "models/test_networks.py", "export/test_run.py"),
    *("planning/test_predict.py", "sweeps/test_run.py", "export/test_onnx.py", "docs/test_notebook.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / file: place for place, file in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Freezes the objects that live as long as the tests, so that the garbage collector skips them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """A folder <identity>/<image> of drawn faces: 12 people with 5 images each, and 4 with one."""
    from facenet_jax.datasets.drawn import render

    folder = tmp_path_factory.mktemp("photos")
    for identity in range(16):
        (folder / f"person {identity:02d}").mkdir()
        for exemplar in range(5 if identity < 12 else 1):
            image = Image.fromarray(np.asarray(render(7, identity, exemplar, (32, 32))))
            image.save(folder / f"person {identity:02d}" / f"{exemplar}.{('png', 'jpg')[exemplar % 2]}")
    return folder
