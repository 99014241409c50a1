"""The code in docs/datasets.md runs, and the page describes every file of a dataset."""

import json
import re
import subprocess
import sys
from pathlib import Path

from facenet_jax.datasets.prepared import read_card
from preparing import prepared

DOCS = Path(__file__).parents[1] / "docs"


def test_a_dataset_is_read_without_this_project(photos, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "datasets.md").read_text(), re.DOTALL)
    assert "facenet_jax" not in code
    prepared(photos, tmp_path / "faces")
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "person 15 (32, 32)\n"


def test_every_file_of_a_dataset_is_described(photos, tmp_path):
    text = (DOCS / "datasets.md").read_text()
    out = tmp_path / "faces"
    prepared(photos, out)
    for file in out.rglob("*"):
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".array_record":
            assert str(file.relative_to(out)) in text
    assert set(json.loads((out / "card.json").read_text())) >= {"format", "version"}
    assert read_card(out).records == 64
