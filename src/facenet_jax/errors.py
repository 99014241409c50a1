"""Errors that a user can fix, each with a message of one sentence."""

import errno

# An OSError that says the machine is short of something says nothing about the file.
MACHINE_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class InputError(Exception):
    """Bad input: a folder, a file, a config value. The message says what, where and what to do.

    The command line prints the message alone and exits with code 2; nothing in the package catches it on the way.
    """


class TrainingError(Exception):
    """A run that cannot go on although its input was fine, such as a loss that is not finite. Exit code 1."""


def told(error: BaseException) -> tuple[int, str] | None:
    """The exit code and the sentence of an error that is not a bug; None: it is a bug, or unknown."""
    if isinstance(error, InputError):
        return 2, str(error)
    if isinstance(error, TrainingError):
        return 1, str(error)
    if isinstance(error, OSError):  # a full disk, a folder that may no longer be written
        place = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        return 1, f"{place}; what was saved before is kept: fix this and run the same command again."
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    return None


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without its full stop, to be put into a sentence."""
    return str(error).strip().split("\n")[0][:300].rstrip(".")


def how_to_install(*extras: str) -> str:
    """What installs optional dependencies, to be put into a sentence: no package index has facenet-jax itself."""
    names = ",".join(extras)
    return f"make setup EXTRAS={names} in the repository, or pip install -e '.[{names}]' there"
