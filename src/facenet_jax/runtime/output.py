"""Output of a command: a broken pipe or a full disk must not lose what was computed."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

CLOSED_PIPE = 141  # as a shell reports a process that SIGPIPE ended


def open_closed_streams() -> None:
    """Opens standard streams that are closed on nothing, so that no file of the command is given their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


class Kept:
    """A text stream whose first failed write is kept as `error`; what is written to it afterwards is dropped.

    The command then runs to its end and writes its files, where an exception from `print` would have stopped it.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """As a text stream's."""
        if self.error is None:
            try:
                return int(self.stream.write(text))
            except OSError as error:
                self._drop(error)
        return len(text)

    def flush(self) -> None:
        """As a text stream's."""
        if self.error is None:
            try:
                self.stream.flush()
            except OSError as error:
                self._drop(error)

    def _drop(self, error: OSError) -> None:
        self.error = error
        # What is buffered goes nowhere, also when Python flushes it at its end, and what other code writes there.
        with contextlib.suppress(OSError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def kept_output() -> Iterator[tuple[Kept, Kept]]:
    """Standard output and error of the block, as `Kept`."""
    before = sys.stdout, sys.stderr
    output, errors = (Kept(stream or io.StringIO()) for stream in before)  # None: closed
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            yield output, errors
        finally:
            output.flush()
            errors.flush()


def code_for_output(code: int, output: Kept) -> int:
    """The exit code of a command that ended with `code`, where its output may not have been taken to the end."""
    if output.error is None or code:
        return code
    if output.error.errno == errno.EPIPE:  # `| head`: the reader has seen enough
        return CLOSED_PIPE
    reason = output.error.strerror or output.error
    print(
        f"facenet-jax: standard output cannot be written ({reason}); the files of this command are complete, what it "
        "prints is not: print it elsewhere.",
        file=sys.stderr,
    )
    return 1
