"""What can go wrong through no fault of the program, said in one sentence."""


class InputError(Exception):
    """Bad input: a folder, a file, a config value. The message says what, where and what to do.

    The command line prints the message alone and exits with code 2; nothing in the package catches it on the way.
    """


class TrainingError(Exception):
    """A run that cannot go on although its input was fine, such as a loss that is not finite. Exit code 1."""
