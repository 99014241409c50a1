"""Small shards for tests of `prepare`."""

import pytest

from facenet_jax.prepare import job


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(job, "_LEAST_FACES", 8)
    monkeypatch.setattr(job, "_SHARDS", 10)
