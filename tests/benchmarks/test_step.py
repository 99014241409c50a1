"""The table of steps."""

import os
import signal
import subprocess
import sys
import time

from benchmarks.step import _processor_seconds, report, report_recipe


def test_rates_are_of_medians_and_ratios_of_turns():
    found = {"nn4": {"at once": [0.02, 0.04, 0.02], "in parts": [0.01, 0.02, 0.02]}}
    assert report(found).splitlines()[2:] == [
        "| NN4 | 120 | at once | 50 | 1.00 |",
        "| NN4 | 120 | in parts | 50 | 2.00 |",
    ]


def test_a_step_of_the_recipe_is_compared_within_turns():
    def turns(*processor_seconds):
        return [{"processor_seconds": busy, "seconds": 0.5} for busy in processor_seconds]

    found = {"here": turns(1.0, 2.0, 1.0), "beside": turns(1.5, 2.0, 3.0)}
    assert report_recipe(found).splitlines()[2:] == [
        "| here | 1.000 | 1.000 to 2.000 | 0.500 | 1.00 |",
        "| beside | 2.000 | 1.500 to 3.000 | 0.500 | 1.50 |",
    ]


def test_processor_time_is_of_all_processes_of_a_session():
    work = "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(60)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    with subprocess.Popen([sys.executable, "-c", start], start_new_session=True) as session:
        try:
            for _ in range(600):
                if _processor_seconds(session.pid) >= 0.3:
                    break
                time.sleep(0.1)
            assert 0.3 <= _processor_seconds(session.pid) < 30
        finally:
            os.killpg(session.pid, signal.SIGKILL)
    assert _processor_seconds(2**30) == 0  # there is none
