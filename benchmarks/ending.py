"""How a benchmark that was started from a shell ends."""

from __future__ import annotations

import sys
from collections.abc import Callable

from facenet_jax.errors import InputError


class Ended(Exception):
    """A child ended with this exit code, having said why, or was asked to stop."""

    def __init__(self, code: int) -> None:
        self.code = code


def exit_code(program: str, main: Callable[[], None]) -> int:
    """Runs it; bad input is one sentence and code 2, a child's code is this one's too."""
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
