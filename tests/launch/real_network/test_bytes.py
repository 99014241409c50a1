"""The bytes that a step sends, counted at the hosts' interfaces, are those that `facenet-jax plan` predicts."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from facenet_jax.planning.program import compile_for
from network_hosts import Hosts, until
from tiny import TINY

pytestmark = pytest.mark.cluster

FIRST, LAST = 5, 25
RUN = [word for word in TINY if not word.startswith(("--config.steps", "--config.mesh", "--config.checkpoint"))]
RUN += ["--config.steps=1000", "--config.checkpoint.every=1000", "--config.batch.random_negatives=0"]


def options(faces: int) -> list[str]:
    return [
        *[word for word in RUN if not word.startswith("--config.batch.size")],
        f"--config.batch.size={faces}",
        "--config.data.drawn.identities=40",
    ]


def counted(hosts: Hosts, workdir: Path, faces: int, count: int) -> tuple[float, float]:
    """Bytes and packets that a host sends in a step, averaged over the hosts."""
    processes = hosts.train(workdir, *options(faces), hosts=count)

    def taken(step: int) -> bool:
        assert all(process.poll() is None for process in processes), hosts.all_said(workdir)
        file = workdir / "metrics.jsonl"
        return file.exists() and file.read_text().count('"loss"') >= step

    before, after = [], []
    for step, readings in ((FIRST, before), (LAST, after)):
        until(lambda step=step: taken(step), 600, lambda: hosts.all_said(workdir), pause=0.01)
        readings += [hosts.sent(host) for host in range(count)]
    for process in processes:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    steps = count * (LAST - FIRST)
    data, packets = (sum(a[i] - b[i] for a, b in zip(after, before, strict=True)) / steps for i in (0, 1))
    return data, packets


@pytest.mark.parametrize(("count", "faces"), [(1, 24), (2, 24), (2, 48), (4, 24), (4, 96)])
def test_bytes_of_a_step_are_those_predicted(hosts, tmp_path, count, faces):
    data, packets = counted(hosts, tmp_path / "run", faces, count)
    predicted = sum(c.sent for c in compile_for("quickstart", options(faces), count).collectives)
    print(f"\n| {count} | {faces} | {predicted:,.0f} | {data:,.0f} | {data / max(predicted, 1):.3f} | {packets:,.0f} |")
    if count == 1:
        assert predicted == 0
        assert data < 2_000  # heartbeats
    else:
        assert data == pytest.approx(predicted, rel=0.1)
