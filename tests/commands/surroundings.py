"""Runs commands in unusual environments, each in a fork of one process: surroundings.py PLACE COMMAND:SURROUNDING..."""

import ctypes
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
from PIL import Image

from facenet_jax import __main__ as entry
from facenet_jax.datasets.drawn import render
from networks import linear_network
from tiny import TINY

SECONDS = 120  # for one command on a shared machine
# Bytes that are not UTF-8, a line end, blanks and quotes.
NAMES = [b"ada", b"b\xffn", b"c\nd", b" eve ", "jos\u00e9".encode(), b"'\"$(x)"]


def make(place: Path) -> dict[str, list[str]]:
    """Makes the input of the commands; returns the words of each, with `{out}` for its output."""
    gallery, other, network = place / "gallery", place / "other", place / "net.onnx"
    for folder, seed in ((gallery, 1), (other, 2)):
        for person, name in enumerate(NAMES):
            (folder / os.fsdecode(name)).mkdir(parents=True)
            for photo in range(4):
                image = Image.fromarray(np.asarray(render(seed, person, photo, (32, 32))))
                image.save(folder / os.fsdecode(name) / f"{photo}.png")
    linear_network(network, (16, 16), "nhwc", None, d=16)
    points = [f"--embedder=onnx:{network}", "--crop=none"]
    measured = ["--data", str(other), "--out", str(place / "results")]
    enrolled = ["--evaluation", str(place / "results" / "identify.json")]
    ready = (
        ["evaluate", "photos", *points, *measured],
        ["evaluate", "identify", *points, *measured, "--false-alarms=0.5"],
        ["enroll", str(gallery), str(place / "index"), *points, *enrolled],
        ["train", "--config=quickstart", *TINY, "--workdir", str(place / "run")],
    )
    for words in ready:
        code, said = run(words, place)
        if code:
            raise RuntimeError(f"{words[0]}: {code}: {said[-2000:]}")
    photo = str(gallery / "ada" / "0.png")
    return {
        "album": ["album", str(gallery), "-o", "{out}", *points],
        "audit": ["audit", str(gallery), "-o", "{out}", *points],
        "cluster": ["cluster", str(gallery), "-o", "{out}", "--people=6", *points],
        "config": ["config", "quickstart"],
        "describe": ["describe", "nns2"],
        "embed": ["embed", str(gallery), "-o", "{out}.npz", *points],
        "enroll": ["enroll", str(gallery), "{out}", *points],
        "evaluate": ["evaluate", "photos", *points, "--data", str(gallery), "--out", "{out}"],
        "export": ["export", str(place / "run"), "--to=stablehlo", "-o", "{out}.bin"],
        "identify": ["identify", photo, str(place / "index"), "--accept-rate=1", "-o", "{out}.json"],
        "overlap": ["overlap", str(gallery), str(other), "--out", "{out}.json"],
        "plan": ["plan", "--config=quickstart", *TINY, "--chip=v5e", "--out", "{out}.json"],
        "prepare": ["prepare", str(gallery), "{out}", "--crop=none", "--workers=0"],
        "report": ["report", str(place / "results"), "-o", "{out}.html"],
        "sweep": ["sweep", "triplets", "--dry-run", *TINY],
        "train": ["train", "--config=quickstart", *TINY, "--workdir={out}"],
        "verify": ["verify", photo, photo, *points, "--evaluation", str(place / "results" / "photos.json"),
                   "--accept-rate=1"],
        "view": ["view", str(place / "results")],
    }  # fmt: skip


def run(words: list[str], folder: Path, surrounding: str = "") -> tuple[int, str]:
    """Runs a command in a process and a folder of its own; returns its exit code and output."""
    with tempfile.TemporaryFile("w+b") as screen:
        child = os.fork()
        if not child:
            code = 70
            try:
                os.chdir(folder)
                for number in (1, 2):
                    os.dup2(screen.fileno(), number)
                _surround(surrounding)
                signal.alarm(SECONDS)
                if words[0] == "view":
                    _end_view()
                sys.argv = ["facenet-jax", *words]
                code = entry.main()
            except SystemExit as leaving:
                code = leaving.code if isinstance(leaving.code, int) else 1
            except BaseException:
                os.write(screen.fileno(), traceback.format_exc().encode())
            finally:
                _leave()
                os._exit(code or 0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        screen.seek(0)
        return code, screen.read().decode(errors="backslashreplace")


def _surround(how: str) -> None:
    """Does what a shell or a service would do before the command starts."""
    numbers = {"closed": (0, 1, 2), "closed input": (0,), "closed errors": (2,)}.get(how, ())
    for number in numbers:
        os.close(number)
    if how == "full":
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, 1)
    if how == "full errors":
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, 2)
    if how == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = None if number in numbers else os.fdopen(number, "w" if number else "r", closefd=False)
        setattr(sys, name, stream)
    if how == "bare":
        for name in ("HOME", "XDG_CACHE_HOME", "LANG", "USER", "PATH"):
            os.environ.pop(name, None)
        os.environ |= {"TMPDIR": "/nowhere", "LC_ALL": "C"}
        tempfile.tempdir = None
    if how == "read-only":
        _obey_permissions()
        os.environ["HOME"] = os.environ["TMPDIR"] = os.environ["XDG_CACHE_HOME"] = os.getcwd()
        tempfile.tempdir = None


def _obey_permissions() -> None:
    """Gives up root's right to write everywhere (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH); other users have none."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None)
    libc.capget(header, data)
    data[0] &= ~0b110
    libc.capset(header, data)


def _end_view() -> None:
    from facenet_jax.report.server import FolderServer

    def serve(server: FolderServer) -> None:
        raise KeyboardInterrupt

    FolderServer.serve_forever = serve


def _leave() -> None:
    """Does what Python does at its end."""
    import atexit

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            os.write(2, b"Exception ignored at the end\n")
    atexit._run_exitfuncs()


def main(place: Path, wanted: list[str]) -> None:
    """Prints a line of JSON for each COMMAND:SURROUNDING: exit code, output, files left and files expected."""
    import flax.linen
    import matplotlib.figure
    import onnxruntime
    import optax
    import orbax.checkpoint

    del flax, matplotlib, onnxruntime, optax, orbax  # they are imported once
    entry.ask_for_huge_pages = lambda: None  # it would start this program again
    commands = make(place)
    for name, how in (one.split(":") for one in wanted):
        here = place / f"{name} {how}"
        here.mkdir(mode=0o555 if how == "read-only" else 0o755)
        words = [word.replace("{out}", "out") for word in commands[name]]
        code, said = run(words, here, how)
        outputs = [new.rpartition("=")[2] for new, old in zip(words, commands[name], strict=True) if new != old]
        found = {"code": code, "said": said, "left": sorted(os.listdir(here)), "outputs": outputs}
        print(json.dumps({"command": name, "surrounding": how} | found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
