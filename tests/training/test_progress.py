"""How fast a run goes."""

from facenet_jax.training import progress
from facenet_jax.training.progress import Clock


def test_the_clock_leaves_pauses_out_and_counts_waiting(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    clock = Clock(images=180)
    clock.restart()
    assert (clock.seconds_per_step, clock.images_per_second, clock.wait_share) == (0.0, 0.0, 0.0)
    for _ in range(4):
        now[0] += 2.0
        clock.step_done(waited=0.5)
    now[0] += 50.0
    clock.pause(50.0)
    assert (clock.seconds_per_step, clock.images_per_second, clock.wait_share) == (2.0, 90.0, 0.25)
