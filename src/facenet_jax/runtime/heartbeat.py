"""Heartbeats of a job's processes: one that falls silent or ends with an error is named by the others.

JAX's own heartbeat ends a process with pages that name no host, and what it could call instead cannot be written in
Python (jaxlib 0.10: std::bad_cast). So this message comes first.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from typing import Any, NoReturn

import jax

from facenet_jax.errors import first_line
from facenet_jax.runtime.progress import duration

# A process that has not been heard of for so long is taken for dead, and the others end.
SILENT_SECONDS = 30.0
_BEAT_SECONDS = 2.0
# Within which those who heard the same error end by themselves, and the first process waits for the others' last look.
_GRACE_SECONDS = 5.0
_AGAIN = "What was saved is kept: run the same command again in all processes."
_KEYS = "facenet-jax/alive"


class Heartbeat:
    """Sends a process's heartbeats and watches the others', in threads of its own, through the job's coordinator.

    Args:
      client: of JAX's coordination service.
      processes: how many there are.
      process: which this is.
    """

    def __init__(self, client: Any, processes: int, process: int) -> None:
        self._client, self._processes, self._process = client, processes, process
        now = time.monotonic()
        self._told: dict[int, dict[str, Any]] = {}  # what each said last
        self._heard = dict.fromkeys(range(processes), now)  # when that was other than before
        self._answered = now  # when the coordinator last answered
        self._error = ""  # why it does not
        self._beats = 0
        self._paused = 0.0
        self._ends: dict[int, float] = {}  # when an end was first heard of
        self._over = threading.Event()
        self._say({})
        threading.Thread(target=self._talk, name="heartbeat", daemon=True).start()
        threading.Thread(target=self._watch, name="listening for the others", daemon=True).start()

    def leave(self, why: str = "", code: int = 0) -> None:
        """This process leaves the job: normally, or with a code and for a reason that the others do not know."""
        self._over.set()
        try:
            self._say({"end": why, "code": code} if why else {"done": True})
            until = time.monotonic() + _GRACE_SECONDS + 2 * _BEAT_SECONDS
            # The coordinator is in the first process: it stays until the others have heard it.
            while why and self._process == 0 and time.monotonic() < until and not self._all_left():
                time.sleep(0.2)
        except jax.errors.JaxRuntimeError:  # nobody is there to be told
            pass

    def blame(self, error: BaseException) -> None:
        """Something that all processes do together failed: waits until it is known which one is gone, and ends then.

        Returns:
          When none is.
        """
        print(
            f"facenet-jax: what the processes of this job do together failed ({first_line(error)[:150]}); listening "
            f"for {duration(SILENT_SECONDS)} which of them is gone",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(SILENT_SECONDS + _GRACE_SECONDS + 2 * _BEAT_SECONDS)

    def _say(self, more: dict[str, Any]) -> None:
        self._beats += 1
        about = {"host": socket.gethostname(), "beat": self._beats, **more}
        self._client.key_value_set(f"{_KEYS}/{self._process}", json.dumps(about), allow_overwrite=True)

    def _listen(self) -> None:
        for key, value in self._client.key_value_dir_get(_KEYS):
            number, told = int(key.rpartition("/")[2]), json.loads(value)
            if told != self._told.get(number):
                self._told[number], self._heard[number] = told, time.monotonic()
        self._answered = time.monotonic()

    def _all_left(self) -> bool:
        self._listen()
        others = (self._told.get(number, {}) for number in range(self._processes) if number != self._process)
        return all("done" in told or "end" in told for told in others)

    def _talk(self) -> None:
        while not self._over.is_set():
            try:
                self._say({})
                self._listen()
            except jax.errors.JaxRuntimeError as error:
                self._error = first_line(error)[:150]
            self._over.wait(_BEAT_SECONDS)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._over.wait(1.0):
            now = time.monotonic()
            if now - looked > _GRACE_SECONDS:  # it was this process that stood still: what it missed says nothing
                self._paused = now - looked
                self._answered = now
                self._heard = dict.fromkeys(self._heard, now)
            looked = now
            self._look(now)

    def _look(self, now: float) -> None:
        """Ends this process where another one has ended or is not heard of."""
        for number, told in sorted(self._told.items()):
            if "end" in told and now - self._ends.setdefault(number, now) > _GRACE_SECONDS:
                self._end(f"process {number} on {told['host']} has ended: {told['end']}", told["code"])
        # Those who waited in vain for this process have ended long ago.
        limit = SILENT_SECONDS if not self._paused else _GRACE_SECONDS
        if now - self._answered > limit and "done" not in self._told.get(0, {}):
            self._end(self._silence(0, now - self._answered))
        if now - self._answered < 2 * _BEAT_SECONDS:  # what an older answer leaves out is no news of the others
            for number, at in self._heard.items():
                if now - at > limit and "done" not in self._told.get(number, {}):
                    self._end(self._silence(number, now - at))

    def _silence(self, number: int, seconds: float) -> str:
        if self._paused:
            return (
                f"this process stood still for {duration(self._paused)} (SIGSTOP, a debugger, a machine that slept), "
                f"and the others have ended the job without it. {_AGAIN}"
            )
        host = self._told.get(number, {}).get("host")
        where = f"process {number}{f' on {host}' if host else ''}"
        return (
            f"{where} has not been heard of for {duration(seconds)}: it was killed or stopped (SIGSTOP), it hangs, or "
            f"its machine or the network between is gone. {_AGAIN}"
        )

    def _end(self, why: str, code: int = 1) -> NoReturn:
        """Ends this process from a thread: the one that trains waits within JAX, and cannot be interrupted."""
        print(
            f"facenet-jax: {why} (this is process {self._process}, which ends)",
            file=sys.stderr,
            flush=True,
        )
        if time.monotonic() - self._answered < 2 * _BEAT_SECONDS and self._process:
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._say({"done": True})
        if self._process == 0 and not self._paused:
            # The coordinator ends with this process, and JAX then ends, with pages, those that have not looked yet.
            time.sleep(_GRACE_SECONDS)
        sys.stdout.flush()
        os._exit(code)
