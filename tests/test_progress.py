"""The line that a person watches."""

import io

import pytest

from facenet_jax.progress import Progress, amount, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_plain_lines():
    stream = io.StringIO()
    lines = Progress(stream)
    lines.line("step 1")
    lines.line("step 2")
    lines.say("saved")
    assert stream.getvalue() == "step 1\nstep 2\nsaved\n"


def test_a_terminal_gets_one_line_that_is_overwritten():
    stream = Terminal()
    lines = Progress(stream)
    lines.line("step 10, long")
    lines.line("step 11")
    assert stream.getvalue() == "\rstep 10, long\rstep 11      "
    lines.say("saved")
    assert stream.getvalue().endswith("\rsaved\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (18720, "5 h 12 min"), (273600, "3 d 4 h")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(12, "12 B"), (2048, "2 KiB"), (3.5 * 2**20, "3.5 MiB"), (512 * 2**20, "512 MiB"), (2**41, "2.0 TiB")],
)
def test_amounts(count, words):
    assert amount(count) == words
