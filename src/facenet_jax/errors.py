"""What can go wrong through no fault of the program, said in one sentence."""

import errno

# An OSError that says the machine is short of something says nothing about the file.
MACHINE_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class InputError(Exception):
    """Bad input: a folder, a file, a config value. The message says what, where and what to do.

    The command line prints the message alone and exits with code 2; nothing in the package catches it on the way.
    """


class TrainingError(Exception):
    """A run that cannot go on although its input was fine, such as a loss that is not finite. Exit code 1."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without its full stop, to be put into a sentence."""
    return str(error).strip().split("\n")[0][:300].rstrip(".")


def how_to_install(*extras: str) -> str:
    """What installs optional dependencies, to be put into a sentence: no package index has facenet-jax itself."""
    names = ",".join(extras)
    return f"make setup EXTRAS={names} in the repository, or pip install -e '.[{names}]' there"
