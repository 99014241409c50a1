"""A fixture: four hosts on a virtual switch, if this machine allows them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from network_hosts import Hosts


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    missing = [name for name in ("ip", "tc", "unshare", "hostname") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: apt-get install iproute2 util-linux hostname")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    made = Hosts(tmp_path_factory.mktemp("network"), 4)
    try:
        try:
            made.start()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {shlex.join(error.cmd)}: {error.stderr.decode().strip()}")
        yield made
    finally:
        made.stop()
