"""The notebook of docs/ runs from its first cell to its last, and shows nothing of the machine that it was run on."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("onnxruntime")
pytest.importorskip("sklearn")

NOTEBOOK = Path(__file__).parents[2] / "docs" / "face_embedder.ipynb"


@pytest.mark.filterwarnings("default")  # of the client's own libraries
def test_the_notebook_runs(tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1] / "src"), prepend=os.pathsep)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(tmp_path))
    said = "".join(str(output) for cell in done.cells for output in cell.get("outputs", []))
    assert "of 24 faces are named right" in said
    assert "np.False_" not in said


def test_its_outputs_name_no_path():
    text = NOTEBOOK.read_text()
    assert '"output_type": "stream"' in text  # it was run before it was stored
    for path in ("/tmp", "/home", "/root", "/work", "C:\\"):
        assert path not in text
