"""The content of the wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_the_wheel_carries_the_configs(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    packaged = {file.name for file in (installed / "facenet_jax" / "configs").glob("*.py")}
    assert packaged == {file.name for file in (REPOSITORY / "configs").glob("*.py")}
    assert (installed / "facenet_jax" / "py.typed").exists()
    templates = "facenet_jax/report/templates"
    there = {file.name for file in (installed / templates).iterdir()}
    assert there == {file.name for file in (REPOSITORY / "src" / templates).iterdir()} >= {"page.html", "style.css"}
    program = "from facenet_jax.config import load_config; print(load_config('nn1', []).model.name)"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(installed)!r}); {program}"]
    assert subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout == "nn1\n"
