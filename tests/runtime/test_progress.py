"""The progress line on a terminal and in a log."""

import io
from types import SimpleNamespace

import pytest

from facenet_jax.runtime import progress
from facenet_jax.runtime.progress import Progress, Tally, amount, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_file_gets_plain_lines():
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


def test_progress_shows_rate_and_remaining_time(monkeypatch):
    now, stream = [0.0], io.StringIO()
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    tally = Tally(Progress(stream), "preparing", 1000, done=100)
    for second in range(1, 81):
        now[0] = second
        # Nothing is done in the first twenty seconds.
        tally.update(100 + 10 * max(0, second - 20), "3 rejected")
    assert stream.getvalue().splitlines() == [
        "preparing 200/1,000  10/s  1 min 20 s to go  3 rejected",
        "preparing 500/1,000  10/s  50 s to go  3 rejected",
    ]
