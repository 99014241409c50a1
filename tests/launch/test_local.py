"""The local launcher names the process that caused a failure."""

import subprocess
import sys
from pathlib import Path

LAUNCHER = Path(__file__).parents[2] / "launch" / "local.py"
# In place of the package: process 1 stops itself, and process 0 then fails.
STAND_IN = """
import os, signal, sys, time
if "--process=1" in sys.argv:
    open(sys.argv[2], "w").close()
    os.kill(os.getpid(), signal.SIGSTOP)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.1)
time.sleep(1)
sys.exit(1)
"""


def test_a_stopped_process_is_named_and_not_the_one_that_failed_because_of_it(tmp_path, monkeypatch):
    (tmp_path / "facenet_jax").mkdir()
    (tmp_path / "facenet_jax" / "__init__.py").touch()
    (tmp_path / "facenet_jax" / "__main__.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = [sys.executable, str(LAUNCHER), "-n2", "--", "train", str(tmp_path / "stopped")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "process 1 is stopped (SIGSTOP) and does not answer" in done.stderr
    assert "process 0 ended with exit code 1; ending the other 1" in done.stderr
