"""Ends a benchmark with an exit code, and with one sentence for errors."""

from __future__ import annotations

import sys
from collections.abc import Callable

from facenet_jax.errors import InputError


class Ended(Exception):
    """A child process ended with this exit code and a message, or was asked to stop."""

    def __init__(self, code: int) -> None:
        self.code = code


def exit_code(program: str, main: Callable[[], None]) -> int:
    """Runs `main` and returns its exit code: 2 for bad input, with one sentence; that of a child that failed."""
    try:
        main()
    except InputError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except Ended as error:
        print(f"{program}: stopped; what is finished is kept, and the same command resumes", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"{program}: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return 1
    return 0
