"""Several processes as one job, through JAX's own distributed runtime: process 0 logs and writes files."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax._src import clusters, distributed
from jax.experimental import multihost_utils

from facenet_jax.errors import InputError, first_line, told
from facenet_jax.runtime import joining
from facenet_jax.runtime.heartbeat import SILENT_SECONDS, Heartbeat

# More than any job has; a number that was mistyped would be waited for.
_MOST_PROCESSES = 100_000
# JAX's own time to bring together those that have met.
_INITIALISE_SECONDS = 120


def _join(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Makes this process part of a job; call it before anything else of JAX.

    Args:
      coordinator: host:port of the first process; None: JAX finds it, as on Cloud TPU, Slurm, Kubernetes and Open MPI.
      processes: how many there are.
      process: which this is, from 0.

    Raises:
      InputError: the options are invalid, no job is found, the others do not come, or JAX has been used already.
    """
    given = [coordinator is not None, processes is not None, process is not None]
    if any(given) and not all(given):
        raise InputError("--coordinator, --processes and --process belong together; give all three.")
    if processes is not None and not 1 <= processes <= _MOST_PROCESSES:
        raise InputError(f"--processes={str(processes)[:40]}: give a number up to {_MOST_PROCESSES:,}, and at least 1.")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise InputError(f"--process={process} of --processes={processes}: count from 0 to {processes - 1}.")
    if os.environ.get("JAX_PLATFORMS", "") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        place = _place(coordinator, processes, process)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise _no_job(error) from error
    if None not in place[:3]:
        joining.check_coordinator(place[0])
        joining.meet(*place[:3])
    late = (
        f"the processes of this job met at {place[0]}, and JAX's runtime had not all of them together "
        f"{_INITIALISE_SECONDS} s later (this is process {place[2]}): one has ended meanwhile; start all of them again."
    )
    try:
        with joining.ends_after(_INITIALISE_SECONDS, late):
            jax.distributed.initialize(
                *place,
                initialization_timeout=2 * _INITIALISE_SECONDS,
                heartbeat_timeout_seconds=3 * int(SILENT_SECONDS),
                shutdown_timeout_seconds=int(SILENT_SECONDS),
            )
    except (RuntimeError, ValueError) as error:
        raise _no_job(error) from error


@contextmanager
def member(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> Iterator[None]:
    """Within `with` this process is part of a job: it says that it lives, and ends where another is gone.

    An error that the others do not know of is reported to them, and this process ends at once: at its usual end JAX
    would wait for the others.
    """
    _join(coordinator, processes, process)
    job = distributed.global_state  # not jax.process_count, which waits for the others
    if job.num_processes == 1:
        yield
        return
    heartbeat = Heartbeat(job.client, job.num_processes, job.process_id)
    try:
        yield
    except AgreedError:
        heartbeat.leave()
        raise
    except BaseException as error:
        if _comes_from_jax(error):
            heartbeat.blame(error)
        code, why = told(error) or (1, "")
        if why:
            print(f"facenet-jax: {why}", file=sys.stderr)
        else:
            sys.excepthook(type(error), error, error.__traceback__)
        heartbeat.leave(why or f"{type(error).__name__}: {first_line(error)}.", code)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    heartbeat.leave()


def _comes_from_jax(error: BaseException | None) -> bool:
    """Whether something may have failed because another process is gone."""
    while error is not None:
        # XLA's errors are of several types, and begin with their kind.
        if re.match("(UNKNOWN|INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED): ", str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _place(
    coordinator: str | None, processes: int | None, process: int | None
) -> tuple[Any, Any, Any, Sequence[int] | None]:
    """Coordinator, number of processes, number of this one and its devices: as given, or as the cluster says."""
    if coordinator is not None:
        return coordinator, processes, process, None
    # As jax.distributed.initialize does, which says nothing of what it found until all have come.
    coordinator = os.environ.get("JAX_COORDINATOR_ADDRESS")
    detect = clusters.ClusterEnv.auto_detect_unset_distributed_params
    found: tuple[Any, Any, Any, Any] = detect(coordinator, None, None, None, None, int(joining.JOIN_SECONDS))
    return found


def _no_job(error: Exception) -> InputError:
    return InputError(
        f"this process could not join a job ({first_line(error)}); on a machine by itself leave --distributed and "
        "--coordinator out, elsewhere give --coordinator=HOST:PORT, --processes and --process."
    )


class AgreedError(InputError):
    """Bad input of which all processes of the job know."""


def devices() -> list[jax.Device]:
    """All devices of the job.

    Raises:
      InputError: JAX_PLATFORMS names some that JAX does not find.
    """
    try:
        return jax.devices()
    except (AssertionError, RuntimeError) as error:  # the first, with no word in it, for CUDA without its plugin
        why = str(error).splitlines()[0] if str(error) else "no plugin for it is installed"
        raise InputError(
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}: JAX cannot use that here ({why}); unset it, or "
            "install what it needs (make setup EXTRAS=cuda, or EXTRAS=tpu)."
        ) from error


def joined() -> bool:
    """Whether this process is part of a job, if only of one process: then SIGTERM is JAX's."""
    return bool(jax.distributed.is_initialized())


def several() -> bool:
    """Whether the job has more than one process."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is process 0, which logs and writes for all."""
    return jax.process_index() == 0


def wait_for_all(why: str) -> None:
    """Returns once every process of the job has come to the same place."""
    if several():
        multihost_utils.sync_global_devices(why)


def all_say(yes: bool) -> bool:
    """Whether every process of the job says so; all of them ask."""
    return bool(np.all(multihost_utils.process_allgather(np.array(yes)))) if several() else yes


def gather(value: Any) -> list[Any]:
    """What each process of the job has, in their order, as JSON gives it back; all of them ask."""
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = np.atleast_1d(multihost_utils.process_allgather(np.array(len(data), np.int32)))
    padded = np.pad(data, (0, int(lengths.max()) - len(data)))
    rows = np.atleast_2d(multihost_utils.process_allgather(padded))
    return [json.loads(bytes(row[:length])) for row, length in zip(rows, lengths, strict=True)]


@contextmanager
def alike(facts: dict[str, Any]) -> Iterator[None]:
    """At the end of `with` the processes of a job compare what they have put into `facts`, and how they fared.

    An error in one of them is one in all, since those that went on would wait for it. Nothing within `with` may wait
    for another process.

    Args:
      facts: what must be the same everywhere, as JSON can hold it, by what a person calls it.

    Raises:
      AgreedError: something differs, or a process had an error.
    """
    if not several():
        yield
        return
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # told to the others, and raised below
        failure = error
    why = "" if failure is None else str(failure) or type(failure).__name__
    of_all = gather({"host": socket.gethostname(), "why": why, "facts": facts})
    if isinstance(failure, InputError):
        raise AgreedError(str(failure)) from failure
    if failure is not None:
        raise failure
    first = of_all[0]
    for process, other in enumerate(of_all):
        if other["why"]:
            raise AgreedError(f"process {process} on {other['host']}: {other['why']}")
    for process, other in enumerate(of_all):
        names = [name for name in {**first["facts"], **other["facts"]} if _of(first, name) != _of(other, name)]
        if names:
            lines = [f"{name}: {_of(other, name)}, and {_of(first, name)} in process 0" for name in names[:3]]
            raise AgreedError(
                f"process {process} on {other['host']} differs from process 0 on {first['host']} in "
                f"{'; '.join(lines)}{'; and more' if names[3:] else ''}. All processes of a job need the same command, "
                "code, faces and --workdir."
            )


def _of(process: dict[str, Any], name: str) -> Any:
    return process["facts"].get(name, "nothing")


def processes_here() -> int:
    """How many processes of the job run on this machine, this one included; all of them ask."""
    if not several():
        return 1
    machines = multihost_utils.process_allgather(np.array(zlib.crc32(socket.gethostname().encode()), np.uint32))
    return int(np.count_nonzero(machines == machines[jax.process_index()]))


class AgreedStop:
    """What asks a job that was joined to stop: SIGTERM in any of them, or SIGINT, which is passed on as such.

    JAX's preemption service, which also hears a cloud machine's notice, carries it to the others and settles a step at
    which all of them stop. To be used in `with`; ask once a step, with the same steps in every process.
    """

    def __enter__(self) -> AgreedStop:
        # SIGTERM itself is JAX's, since it joined the job.
        self._before = signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
        self._asked = 0
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def asked(self, step: int) -> signal.Signals | None:
        """SIGTERM if this is the step at which all processes stop."""
        # Not the step itself: a request from before the first is settled for number 1, which a run resumed from
        # step 40 would never come to.
        self._asked += 1
        return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(self._asked) else None
