"""The process of the command `facenet-jax`, or of `python -m facenet_jax`."""

from __future__ import annotations

import sys

from facenet_jax.runtime import library_log
from facenet_jax.runtime.huge_pages import ask_for_huge_pages
from facenet_jax.runtime.output import open_closed_streams


def main() -> int:
    """Runs the command; see `facenet_jax.cli`."""
    open_closed_streams()
    if sys.argv[1:2] == ["train"]:
        ask_for_huge_pages()
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        library_log.watch(sys.argv[1])
    from facenet_jax.cli import main as run  # after a start that would be thrown away

    return run()


if __name__ == "__main__":
    sys.exit(main())
