"""A fixture: a bucket in memory at gs://, which `open` cannot read."""

from typing import ClassVar

import fsspec
import pytest
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry


class MemoryBucket(MemoryFileSystem):
    """Replaces gcsfs in fsspec."""

    protocol = ("gcs", "gs")
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("gs://"))


@pytest.fixture
def bucket(monkeypatch):
    """The address of an empty bucket."""
    fsspec.register_implementation("gcs", MemoryBucket, clobber=True)
    backend.fsspec_backend._get_filesystem.cache_clear()
    monkeypatch.setattr(MemoryBucket, "store", {})
    monkeypatch.setattr(MemoryBucket, "pseudo_dirs", [""])
    yield "gs://bucket"
    backend.fsspec_backend._get_filesystem.cache_clear()
    _registry.pop("gcs", None)
