"""The code in docs/export.md runs, where it says so without this project."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from facenet_jax import FaceEmbedder

CODE = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "export.md").read_text(), re.DOTALL)


@pytest.fixture
def folder(run, exported, photos, tmp_path):
    """The folder in which the code runs. Pillow recognises a PNG by its content, whatever its name."""
    shutil.copy(exported(), tmp_path / "nn4.onnx")
    shutil.copy(exported("stablehlo"), tmp_path / "nn4.stablehlo")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "nn4").symlink_to(run)
    for name, person in zip("abc", ("00", "01", "02"), strict=True):
        shutil.copy(photos / f"person {person}" / "0.png", tmp_path / f"{name}.jpg")
    return tmp_path


def test_other_programs_and_this_one_agree(folder, run, monkeypatch, capsys):
    with_onnx, with_jax, ours = CODE
    expected = f"squared distance {FaceEmbedder(run).distance(folder / 'a.jpg', folder / 'b.jpg'):.3f}"
    assert "facenet_jax" not in with_onnx + with_jax
    assert len(with_onnx.splitlines()) <= 10
    assert len(with_jax.splitlines()) <= 10
    done = subprocess.run([sys.executable, "-c", with_onnx], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(expected)
    monkeypatch.chdir(folder)
    exec(with_jax, {})
    assert capsys.readouterr().out.startswith(expected)
    found: dict = {}
    exec(ours, found)
    assert found["distances"].shape == (2,)
    assert f"squared distance {found['distances'][0]:.3f}" == expected
