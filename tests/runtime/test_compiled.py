"""Compiled programs are kept in the user's cache, and slow compilation is announced."""

import os
import random
import subprocess
import sys
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from facenet_jax.runtime import compiled
from facenet_jax.runtime.compiled import announced, compiling, deterministic_options, fingerprint, keep_compiled
from tiny import TINY

FOLDER = "JAX_COMPILATION_CACHE_DIR"


@pytest.fixture
def variables(monkeypatch, tmp_path):
    monkeypatch.delenv(FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return monkeypatch


def test_programs_are_kept_in_the_users_cache_folder(variables, tmp_path, capsys):
    keep_compiled()
    folder = tmp_path / "caches" / "facenet-jax" / "compiled"
    assert os.environ[FOLDER] == str(folder)
    assert folder.is_dir()
    variables.delenv(FOLDER)
    variables.delenv("XDG_CACHE_HOME")
    variables.setenv("HOME", str(tmp_path))
    keep_compiled()
    assert os.environ[FOLDER] == str(tmp_path / ".cache" / "facenet-jax" / "compiled")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("given", ["", "gs://bucket/programs"])
def test_a_folder_given_by_the_user_is_kept(given, variables, tmp_path):
    variables.setenv(FOLDER, given)
    keep_compiled()
    assert os.environ[FOLDER] == given
    assert not (tmp_path / "caches").exists()


@pytest.mark.parametrize("variable", [FOLDER, "XDG_CACHE_HOME"])
def test_a_folder_that_cannot_be_written_is_reported_in_one_line(variable, variables, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    variables.setenv(variable, str(tmp_path / "file"))
    keep_compiled()
    assert os.environ[FOLDER] == ""  # off, for JAX
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "compiled programs are not kept" in error
    assert str(tmp_path / "file") in error


def test_fast_compilation_is_not_announced(capsys):
    call = announced(jax.jit(lambda x: x + 1), "a sum")
    assert call(jnp.ones(3)).tolist() == [2, 2, 2]
    assert capsys.readouterr().err == ""


def test_slow_compilation_is_announced_once_for_each_shape(monkeypatch, capsys):
    monkeypatch.setattr(compiled, "_LONG_SECONDS", 0.0)
    monkeypatch.setattr(compiled, "time", SimpleNamespace(perf_counter=lambda: 7.0))  # however busy the machine is

    new = random.random()  # so that no earlier test has kept this program

    def slow(x):
        for _ in range(200):
            x = jnp.sin(x + new)
        return x

    call = announced(jax.jit(slow), "a sum")
    for shape in (3, 3, 4):
        call(jnp.ones(shape))
    error = capsys.readouterr().err
    assert error.count("compiling       a sum\n") == 2
    assert error.count("compiled        in 0 s\n") == 2


def test_an_error_while_compiling_prints_no_end():
    said = []
    with pytest.raises(ValueError, match="on purpose"), compiling("a step", said.append, at_once=True):
        raise ValueError("on purpose")
    assert said == ["compiling       a step"]


def test_a_second_process_reads_what_the_first_compiled(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != FOLDER}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def train(run, **more):
        command = [sys.executable, "-m", "facenet_jax", "train", "--config=quickstart", f"--workdir={tmp_path / run}"]
        options = [*TINY, "--config.steps=1", "--config.eval.drawn_identities=20", "--config.eval.batch=80"]
        done = subprocess.run([*command, *options], env=environment | more, capture_output=True, text=True, check=True)
        return done.stderr

    first, second, without = train("a"), train("b"), train("c", JAX_ENABLE_COMPILATION_CACHE="false")
    said = "compiling       a step of nns2, 18 faces\ncompiled        "
    assert f"{said}in " in first
    assert f"{said}before, kept, and read in " in second
    assert f"{said}in " in without
    memory = [line for error in (first, second) for line in error.splitlines() if line.startswith("memory")]
    assert memory[0].split(" of ")[0] == memory[1].split(" of ")[0]  # the program that was read is as large


def test_only_a_gpu_gets_an_option_for_determinism():
    assert deterministic_options(False, "gpu") is None
    assert [deterministic_options(True, platform) for platform in ("cpu", "tpu")] == [None, None]
    options = deterministic_options(True, "gpu")
    assert float(jax.jit(jnp.sum, compiler_options=options)(jnp.ones(3))) == 3  # XLA refuses names it does not know
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_gpu_deterministic_op"):
        jax.jit(jnp.sum, compiler_options={"xla_gpu_deterministic_op": True})(jnp.ones(3))


def test_the_fingerprint_of_a_program_does_not_depend_on_source_lines():
    def program(function):
        return jax.jit(function).lower(jnp.ones(3)).compile()

    def here(x):
        return jnp.sin(x) + 1

    def there(x):  # on other lines of the source
        return jnp.sin(x) + 1

    def other(x):
        return jnp.sin(x) + 2

    there.__name__ = other.__name__ = here.__name__
    first, same, changed = (fingerprint([program(function)]) for function in (here, there, other))
    assert first == same != changed
    assert fingerprint([program(here), program(other)]) not in (first, changed)


class Text(NamedTuple):
    text: str

    def as_text(self):
        return self.text


def test_the_fingerprint_of_a_gpu_program_depends_on_its_kernels():
    text = 'HloModule step\n\nFileNames\n1 "/home/a/step.py"\n\nENTRY main {\n  c = f32[] custom-call(), '
    chosen = 'metadata={op_name="jit(step)/{conv}" source_line=7}, backend_config={"algorithm":{"algo_id":"%d"}}\n}\n'
    one, other = text + chosen % 1, text + chosen % 2
    moved = one.replace("/home/a", "/srv").replace("=7", "=9")
    assert moved != one
    assert fingerprint([Text(one)]) == fingerprint([Text(moved)]) != fingerprint([Text(other)])
