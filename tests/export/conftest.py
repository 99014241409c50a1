"""A run with untrained parameters, exported once in each form."""

import pytest

from networks import saved_run


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The working directory of a run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    saved_run(folder)
    return folder


@pytest.fixture(scope="session")
def exported(run, photos, tmp_path_factory):
    """A function of (form, dtype): the exported file, made at the first call."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from facenet_jax.export.run import Wanted, export

    folder, made = tmp_path_factory.mktemp("exported"), {}

    def file(form="onnx", dtype="float32"):
        if (form, dtype) not in made:
            path = folder / f"tiny_{dtype}.{form}"
            export(Wanted(run, form, path, dtype, calibrate=photos if dtype == "int8" else None))
            made[form, dtype] = path
        return made[form, dtype]

    return file
