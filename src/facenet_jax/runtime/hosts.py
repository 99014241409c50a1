"""Several processes as one job, through JAX's own distributed runtime: process 0 logs and writes files."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from facenet_jax.errors import InputError
from facenet_jax.runtime.progress import duration

# A process that has not been heard of for so long is taken for dead, and the others end.
HEARTBEAT_SECONDS = 30
# How long the others are waited for when a job begins, and how often that is said.
JOIN_SECONDS, _SAY_SECONDS = 300.0, 30.0


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Makes this process part of a job; call it before anything else of JAX.

    Args:
      coordinator: host:port of the first process; None: JAX finds it, as on Cloud TPU, Slurm, Kubernetes and Open MPI.
      processes: how many there are.
      process: which this is, from 0.

    Raises:
      InputError: the options will not do, no job is found, the others do not come, or JAX has been used already.
    """
    given = [coordinator is not None, processes is not None, process is not None]
    if any(given) and not all(given):
        raise InputError("--coordinator, --processes and --process belong together; give all three.")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise InputError(f"--process={process} of --processes={processes}: count from 0 to {processes - 1}.")
    if coordinator is not None and not _is_address(coordinator):
        raise InputError(f"--coordinator={coordinator}: give HOST:PORT of the first process, such as 10.0.0.1:8476.")
    if coordinator is not None:
        _check_coordinator(coordinator, serves=process == 0)
    if os.environ.get("JAX_PLATFORMS", "") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        with _waiting(f"all {processes} processes" if processes else "all processes of the job", coordinator, process):
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                initialization_timeout=int(JOIN_SECONDS) + HEARTBEAT_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=HEARTBEAT_SECONDS,
            )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"this process could not join a job ({str(error).splitlines()[0]}); on a machine by itself leave "
            "--distributed and --coordinator out, elsewhere give --coordinator=HOST:PORT, --processes and --process."
        ) from error


def _check_coordinator(coordinator: str, serves: bool) -> None:
    """What would have JAX's runtime hang, or end the process with no sentence, is looked at before it is called.

    Args:
      coordinator: host:port.
      serves: whether this process is the one that listens there.

    Raises:
      InputError: the host name is unknown, or the port cannot be listened on.
    """
    host, _, port = coordinator.rpartition(":")
    try:
        socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--coordinator={coordinator}: the host name {host} cannot be looked up ({error}); give a name or an "
            "address of the first process's machine."
        ) from error
    if serves and "JAX_COORDINATOR_BIND_ADDRESS" not in os.environ:
        both = socket.has_dualstack_ipv6()
        try:
            socket.create_server(
                ("", int(port)), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
            ).close()
        except OSError as error:
            raise InputError(
                f"--coordinator={coordinator}: this process cannot listen on port {port} "
                f"({os.strerror(error.errno or 0)}); give all processes another port, one that no program uses."
            ) from error
    # gRPC obeys these variables, and no proxy leads to the coordinator.
    if any(os.environ.get(name) for name in ("grpc_proxy", "https_proxy", "http_proxy")):
        for name in ("no_proxy", "no_grpc_proxy"):
            if name == "no_proxy" or name in os.environ:
                os.environ[name] = ",".join(filter(None, [os.environ.get(name), host.strip("[]")]))


@contextmanager
def _waiting(whom: str, coordinator: str | None, process: int | None) -> Iterator[None]:
    """Says within `with`, every half minute, what is waited for, and ends the process when that takes too long.

    JAX's runtime would abort it with pages of its own, and cannot be interrupted.
    """
    place = f" at {coordinator}" if coordinator else ""
    here = "this process" if process is None else f"this is process {process}"
    joined = threading.Event()

    def watch() -> None:
        begun = time.monotonic()
        pause = 1.0  # those that start together are not waited for
        while not joined.wait(pause):
            left = JOIN_SECONDS - (time.monotonic() - begun)
            if left <= 0:
                print(
                    f"facenet-jax: not {whom} came{place} within {duration(JOIN_SECONDS)} ({here}); see whether each "
                    "was started, with the same --coordinator and --processes and a --process of its own, and whether "
                    "a firewall or a proxy (http_proxy, https_proxy) stands between.",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(2)
            print(
                f"waiting for {whom}{place}, up to {duration(left)} ({here})",
                file=sys.stderr,
                flush=True,
            )
            pause = min(_SAY_SECONDS, left)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        joined.set()


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 2**16


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
    """Whether this is the process that speaks and writes for all."""
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
      InputError: something differs, or another process had an error.
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
    if failure is not None:
        raise failure
    first = of_all[0]
    for process, other in enumerate(of_all):
        if other["why"]:
            raise InputError(f"process {process} on {other['host']}: {other['why']}")
    for process, other in enumerate(of_all):
        names = [name for name in {**first["facts"], **other["facts"]} if _of(first, name) != _of(other, name)]
        if names:
            lines = [f"{name}: {_of(other, name)}, and {_of(first, name)} in process 0" for name in names[:3]]
            raise InputError(
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
        # Not the step itself: a request from before the first is settled for number 1, which a run that goes on from
        # step 40 would never come to.
        self._asked += 1
        return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(self._asked) else None
