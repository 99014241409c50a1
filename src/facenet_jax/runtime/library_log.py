"""Sends what libraries print to a file, so that the screen shows this program's own messages."""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

FILE = "library.log"
_MOST_BYTES = 4 * 2**20  # of the file that commands share
# The last message of a library, or of Python, that ends the process.
_FATAL = re.compile(rb"^(?:F\d{4} .*?\] ?|Fatal Python error: |terminate called after )(.+)", re.MULTILINE)

_log: _Log | None = None


def watch(command: str) -> None:
    """Redirects to a log what this process prints other than by sys.stdout and sys.stderr, loggers and warnings too.

    The log is in memory until `keep_in` is called; without that, it is added to `library.log` in
    `$XDG_CACHE_HOME/facenet-jax` when the process ends. A child process waits for this one to end: the C++ of JAX and
    TensorStore may abort the process, and then only another process can report it. Call it once, before JAX is
    imported.

    Args:
      command: the subcommand, for the heading of the log.
    """
    global _log
    if sys.stdout is None or sys.stderr is None or not hasattr(os, "fork"):  # closed: a file may have descriptor 1 or 2
        return
    with contextlib.suppress(OSError):
        _log = _Log(command)


def keep_in(folder: Path, name: str = FILE) -> None:
    """Moves the log to a file in this folder, which has to exist; the file is removed at the end if it is empty."""
    if _log is not None:
        _log.move(folder / name)


def release() -> None:
    """Removes the file of `keep_in` if it is empty, so that its folder can be removed."""
    if _log is not None:
        _log.release()


def place() -> Path | None:
    """The log's file, if anything is in it."""
    return None if _log is None else _log.settle()


def screen() -> tuple[int | None, int | None]:
    """Standard output and error for a command that is started from here, as subprocess.Popen takes them."""
    return (None, None) if _log is None else (sys.stdout.fileno(), sys.stderr.fileno())


class _Log:
    def __init__(self, command: str) -> None:
        self._command = command
        self._file: Path | None = None
        self._number = _in_memory()
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = _apart(sys.stdout, 1), _apart(sys.stderr, 2)
        self._goodbye = self._leave_watch()
        for number in (1, 2):
            os.dup2(self._number, number)
        logging.getLogger().addHandler(_Handler(level=logging.WARNING))
        threading.excepthook = lambda about: _write(
            *traceback.format_exception(about.exc_type, about.exc_value, about.exc_traceback)
        )
        sys.unraisablehook = lambda about: _write(
            f"{about.err_msg or 'Exception ignored in'}: {about.object!r}\n",
            *traceback.format_exception(about.exc_type, about.exc_value, about.exc_traceback),
        )
        warnings.showwarning = lambda *about, **_: _write(warnings.formatwarning(*about[:4]))

    def move(self, file: Path) -> None:
        try:
            number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError:  # the log stays where it is
            return
        begun = os.fstat(number).st_size
        with contextlib.suppress(OSError):  # the disk is full
            os.write(number, os.pread(self._number, _MOST_BYTES, 0))
        for stream in (1, 2):
            os.dup2(number, stream)
        os.close(self._number)
        self._number, self._file = number, file
        os.write(self._goodbye, b"%d %s\n" % (begun, os.fsencode(file.absolute())))

    def release(self) -> None:
        if self._file is None or os.fstat(self._number).st_size:
            return
        with contextlib.suppress(OSError):
            self._file.unlink()
        memory = _in_memory()
        for stream in (1, 2):
            os.dup2(memory, stream)
        os.close(self._number)
        self._number, self._file = memory, None
        os.write(self._goodbye, b"0 \n")

    def settle(self) -> Path | None:
        """Writes what is in memory to a file; returns that file, or None where the log is empty."""
        if os.fstat(self._number).st_size == 0:
            return None
        shared = _shared_file() if self._file is None else None
        if shared is not None:
            with contextlib.suppress(OSError), shared.open("a") as file:
                file.write(f"--- facenet-jax {self._command}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
            self.move(shared)
        return self._file

    def _leave_watch(self) -> int:
        """Starts the child process; returns the pipe that tells it where the log is, and of a normal end by a zero."""
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            os.close(theirs)
            _watch(ours, self._number)
        os.close(ours)
        os.register_at_fork(after_in_child=lambda: os.close(theirs))
        atexit.register(self._leave, os.getpid(), child)
        return theirs

    def _leave(self, parent: int, child: int) -> None:
        if os.getpid() != parent:  # in a fork of this process
            return
        with contextlib.suppress(OSError):
            if self.settle() is None and self._file is not None:
                self._file.unlink()
            os.write(self._goodbye, b"\0")
            os.waitpid(child, 0)


def _watch(pipe: int, memory: int) -> NoReturn:
    """In the child process: waits for its parent to end, and says so on the screen if a library ended it."""
    code = 1
    try:
        for sent_to_all in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(sent_to_all, signal.SIG_IGN)
        screen = sys.stderr.fileno()
        for number in {0, 1, 2, sys.stdout.fileno()} - {screen}:  # their readers need not wait for this process
            with contextlib.suppress(OSError):
                os.close(number)
        heard = b""
        while not heard.endswith(b"\0") and (data := os.read(pipe, 4096)):
            heard += data
        if not heard.endswith(b"\0"):
            *_, last = [b"0 ", *heard.splitlines()]
            begun, _, name = last.partition(b" ")
            said = Path(os.fsdecode(name)).read_bytes()[int(begun) :] if name else os.pread(memory, _MOST_BYTES, 0)
            if found := _FATAL.search(said):
                file = Path(os.fsdecode(name)) if name else _shared_file()
                if not name and file is not None:
                    with file.open("ab") as log:
                        log.write(said)
                words = found[1].decode(errors="replace").strip()[:300]
                place = f"; all that it said is in {file}" if file else ""
                os.write(screen, f"facenet-jax: a library ended this process: {words}{place}\n".encode())
        code = 0
    finally:
        os._exit(code)


class _Handler(logging.Handler):
    """Writes log records to the log, ignoring a full disk."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "jax._src.xla_bridge":  # JAX falls back to the CPU: the user has to know
            print(f"facenet-jax: warning: {record.getMessage()}", file=sys.stderr)
            return
        _write(f"{time.strftime('%H:%M:%S')} {record.levelname} {record.name}: {self.format(record)}\n")


def _write(*lines: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, "".join(lines).encode(errors="backslashreplace"))


def _apart(stream: Any, number: int) -> io.TextIOWrapper:
    """The same stream on a copy of its file descriptor, since 1 and 2 become the log."""
    raw = io.FileIO(os.dup(number), "wb")
    return io.TextIOWrapper(
        cast(BinaryIO, raw if stream.write_through else io.BufferedWriter(raw)),
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _in_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(FILE)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _shared_file() -> Path | None:
    """The log of commands that have no folder of their own, with room in it; None where there can be none."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "facenet-jax")
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / FILE
        if file.exists() and file.stat().st_size > _MOST_BYTES:
            file.replace(file.with_suffix(".old"))
        file.open("ab").close()
    except (OSError, RuntimeError):  # the second where the user's home folder is unknown
        return None
    return file
