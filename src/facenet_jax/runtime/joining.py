"""All processes of a job meet at its coordinator's port before JAX's runtime is called."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from facenet_jax.errors import InputError
from facenet_jax.runtime.progress import duration

# How long the others are waited for when a job begins, and how often that is said.
JOIN_SECONDS, _SAY_SECONDS = 300.0, 30.0
# Those that start together are not waited for.
_FIRST_SECONDS, _AGAIN_SECONDS = 1.0, 0.5
_LISTEN_SECONDS = 10.0
_LINE = 4096
_BIND = "JAX_COORDINATOR_BIND_ADDRESS"
_ADVICE = (
    "see whether each was started, with the same --coordinator and --processes and a --process of its own, and whether "
    "a firewall or a proxy (http_proxy, https_proxy) is in between"
)


def check_coordinator(coordinator: str) -> None:
    """What would have JAX's runtime hang, or end the process with no sentence, is looked at before it is called.

    Args:
      coordinator: host:port of the first process, as given or as the cluster says.

    Raises:
      InputError: it is not an address, or the host name is unknown.
    """
    for said, address in (("--coordinator", coordinator), (_BIND, os.environ.get(_BIND) or coordinator)):
        if not _is_address(address):
            raise InputError(f"{said}={address}: give HOST:PORT of the first process, such as 10.0.0.1:8476.")
    host, port = _parts(coordinator)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--coordinator={coordinator}: the host name {host} cannot be looked up ({error}); give a name or an "
            "address of the first process's machine."
        ) from error
    # gRPC obeys these variables, and no proxy leads to the coordinator.
    if any(os.environ.get(name) for name in ("grpc_proxy", "https_proxy", "http_proxy")):
        for name in ("no_proxy", "no_grpc_proxy"):
            if name == "no_proxy" or name in os.environ:
                os.environ[name] = ",".join(filter(None, [os.environ.get(name), host]))


def meet(coordinator: str, processes: int, process: int) -> None:
    """Returns once all processes of a job have come to its coordinator, where the first of them receives the others.

    JAX's runtime would say nothing while it waits, abort the process after that, and cannot be interrupted.

    Args:
      coordinator: host:port; the port is free again afterwards, for JAX.
      processes: how many there are.
      process: which this is; 0 listens.

    Raises:
      InputError: the port cannot be listened on, not all come in time, or they do not agree on how many there are.
    """
    wait = _Wait(coordinator, processes, process)
    if process == 0:
        with _listener(coordinator) as listener:
            _receive(wait, listener)
        return
    while not _visit(wait):
        wait.look([0])
        time.sleep(_AGAIN_SECONDS)
    _until_it_listens(coordinator)


class _Wait:
    """What a process that waits says, every half minute, and when it gives up."""

    def __init__(self, coordinator: str, processes: int, process: int) -> None:
        self.coordinator, self.processes, self.process = coordinator, processes, process
        self.answer = "nothing answers there"  # why the first process is not there, as others see it
        self._begun = time.monotonic()
        self._say_at = self._begun + _FIRST_SECONDS

    def left(self) -> float:
        return JOIN_SECONDS - (time.monotonic() - self._begun)

    def look(self, missing: Collection[int]) -> None:
        """Says for which processes it waits, if it is time to; raises InputError if it is time to give up."""
        if self.left() <= 0:
            raise InputError(
                f"not all {self.processes} processes came at {self.coordinator} within {duration(JOIN_SECONDS)} (this "
                f"is process {self.process}): {self._absent(missing)}; {_ADVICE}."
            )
        if time.monotonic() >= self._say_at:
            self._say_at = time.monotonic() + min(_SAY_SECONDS, self.left())
            say(
                f"waiting for {len(missing)} of {self.processes} processes at {self.coordinator}, up to "
                f"{duration(self.left())}: {self._absent(missing)} (this is process {self.process})"
            )

    def _absent(self, missing: Collection[int]) -> str:
        if self.process and list(missing) == [0]:
            return f"process 0 receives the others, and {self.answer}"
        numbers = sorted(missing)
        named = ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
        return f"process {named} has not come" if len(numbers) == 1 else f"processes {named} have not come"


def _receive(wait: _Wait, listener: socket.socket) -> None:
    """Takes the others in, tells them who is missing, and has all of them go on at once."""
    come: dict[int, tuple[socket.socket, str]] = {}
    everyone = set(range(1, wait.processes))
    with selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        try:
            while missing := everyone - set(come):
                try:
                    wait.look(missing)
                except InputError as error:
                    _tell(come, ended=str(error))
                    raise
                for key, _ in ready.select(_AGAIN_SECONDS):
                    one = key.fileobj
                    assert isinstance(one, socket.socket)
                    if one is listener:
                        visitor, _ = listener.accept()
                        visitor.setblocking(False)
                        ready.register(visitor, selectors.EVENT_READ, bytearray())
                    elif not _heard(wait, come, one, key.data):
                        ready.unregister(one)
                        one.close()
                        come = {number: other for number, other in come.items() if other[0] is not one}
                if missing := everyone - set(come):
                    _tell(come, missing=sorted(missing))
            _tell(come, go=True)
            for one, _ in come.values():  # they hang up, so that the port is free
                one.settimeout(5)
                _hang_up(one)
        finally:
            for key in list(ready.get_map().values()):
                if key.fileobj is not listener:
                    key.fileobj.close()  # type: ignore[union-attr]


def _heard(wait: _Wait, come: dict[int, tuple[socket.socket, str]], visitor: socket.socket, heard: bytearray) -> bool:
    """Reads what a visitor says of itself; whether it may stay."""
    try:
        data = visitor.recv(_LINE)
    except BlockingIOError:
        return True
    except OSError:
        return False
    heard += data
    if not data or len(heard) > _LINE:
        return False
    if b"\n" not in heard:
        return True
    about = _read(bytes(heard))
    number, host = about.get("process"), str(about.get("host"))[:100]
    if about.get("job") != "facenet-jax" or type(number) is not int:
        return False
    if about.get("processes") != wait.processes or not 0 < number < wait.processes:
        why = (
            f"process {number} on {host} was started with --processes={about.get('processes')}, process 0 with "
            f"--processes={wait.processes}; start all with the same number, and --process from 0 below it."
        )
    elif number in come and come[number][0] is not visitor:
        why = (
            f"there are two of process {number}: on {come[number][1]} and on {host}; start each with a --process of "
            "its own."
        )
    else:
        come[number] = visitor, host
        return True
    say(f"refused: {why}")
    _send(visitor, {"ended": why})
    return False


def _visit(wait: _Wait) -> bool:
    """Goes to the first process and stays until all have come; False: it is not there, or it went away."""
    try:
        with socket.create_connection(_parts(wait.coordinator), timeout=5) as stream:
            stream.settimeout(_AGAIN_SECONDS)
            about = {"job": "facenet-jax", "process": wait.process, "processes": wait.processes}
            _send(stream, about | {"host": socket.gethostname()})
            heard, missing = b"", [0]
            while True:
                wait.look(missing)
                try:
                    data = stream.recv(_LINE)
                except TimeoutError:
                    continue
                heard += data
                *lines, heard = heard.split(b"\n")
                for line in lines:
                    told = _read(line)
                    if told.get("go") is True:
                        return True
                    if "ended" in told:
                        raise InputError(str(told["ended"])[:_LINE])
                    if isinstance(told.get("missing"), list) and told["missing"]:
                        missing = told["missing"]  # of which 0 is none: it has received this process
                if not data or len(heard) > _LINE or missing == [0]:
                    wait.answer = (
                        "another program, or a job that has begun, answers there" if missing == [0] else ("it has left")
                    )
                    return False
    except OSError as error:
        wait.answer = f"nothing answers there ({error.strerror or error})"
        return False


def _until_it_listens(coordinator: str) -> None:
    """Returns once JAX's service is there, or some seconds later: gRPC tries again only after a second or two."""
    until = time.monotonic() + _LISTEN_SECONDS
    while time.monotonic() < until:
        try:
            socket.create_connection(_parts(coordinator), timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)


def _listener(coordinator: str) -> socket.socket:
    """A socket where JAX's service is going to listen.

    Raises:
      InputError: there can be none.
    """
    bound = os.environ.get(_BIND, "")
    host, port = _parts(bound or f"[::]:{_parts(coordinator)[1]}")
    both = host == "::" and socket.has_dualstack_ipv6()
    version = socket.AF_INET6 if both or (":" in host and host != "::") else socket.AF_INET
    try:
        return socket.create_server(("" if host == "::" else host, port), family=version, dualstack_ipv6=both)
    except OSError as error:
        advice = "give all processes another port, one that no program uses"
        if bound or error.errno not in (errno.EADDRINUSE, errno.EACCES):
            advice = f"see {_BIND}={bound}" if bound else advice
        raise InputError(
            f"--coordinator={coordinator}: this process cannot listen on port {port} "
            f"({os.strerror(error.errno or 0)}); {advice}."
        ) from error


def _tell(come: dict[int, tuple[socket.socket, str]], **news: Any) -> None:
    for one, _ in come.values():
        _send(one, news)


def _send(stream: socket.socket, news: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # it has left, which the next look at it tells
        stream.sendall(json.dumps(news).encode() + b"\n")


def _hang_up(stream: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while stream.recv(_LINE):
            pass


def _read(line: bytes) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 2**16


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


@contextmanager
def ends_after(seconds: float, why: str) -> Iterator[None]:
    """Ends the process with a sentence where what is within `with` takes longer, since nothing can interrupt it."""

    def end() -> None:
        say(f"facenet-jax: {why}")
        os._exit(2)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def say(text: str) -> None:
    """A line of this process's own, whichever it is: processes that wait do not know yet which of them logs for all."""
    print(text, file=sys.stderr, flush=True)
