"""Serves a folder's pages and files, read-only, to browsers on this machine."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import IO, Any, ClassVar
from urllib.parse import quote, unquote_to_bytes

from facenet_jax.errors import InputError, first_line
from facenet_jax.report.page import render

# The loopback interface: no other machine can connect.
ADDRESS = "127.0.0.1"
_NAMES = (ADDRESS, "localhost")
_TEXT = "text/plain; charset=utf-8"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".jsonl": _TEXT,
    ".txt": _TEXT,
    ".log": _TEXT,
    ".md": _TEXT,
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".avif": "image/avif",
}
_OTHER = "application/octet-stream"
# A page holds its own style, script and pictures, and shows files of the folder; nothing comes from elsewhere.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-src 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # faces do not stay in the browser's cache
}
_PART = 2**18
# Entries of a folder that its page lists.
_MOST = 1000


class _Refused(Exception):
    """A request that is answered by an HTTP status in place of a file."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class Entry:
    """A file or folder in the page of a folder.

    Attributes:
      name: as shown.
      address: relative to the page.
      size: in bytes; None: a folder.
    """

    name: str
    address: str
    size: int | None


class FolderServer(ThreadingHTTPServer):
    """Serves a folder on the loopback interface until `shutdown`.

    GET and HEAD of the files in the folder, and a page for each folder in it without an index.html. Hidden files, and
    links that lead out of the folder, are not served. A request whose Host is not this machine's is refused, so that a
    page of another site whose name resolves to this machine (DNS rebinding) cannot read the files.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Listens; nothing is served before `serve_forever`.

        Args:
          folder: the folder to serve.
          port: to listen on; 0: any free port.

        Raises:
          InputError: it is not a folder, or the port cannot be listened on.
        """
        try:
            if not stat.S_ISDIR(folder.stat().st_mode):
                raise InputError(f"{folder} is not a folder; give the folder that holds the pages.")
            self.root = folder.resolve(strict=True)
            os.scandir(self.root).close()
        except OSError as error:
            raise InputError(f"{folder} cannot be read ({error.strerror}); give a folder with results.") from error
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OverflowError as error:
            raise InputError(f"--port={port}: give a number from 1 to 65535, or leave it out.") from error
        except OSError as error:
            raise InputError(
                f"--port={port} cannot be listened on ({error.strerror}); give another, or leave it out for a free one."
            ) from error

    @property
    def url(self) -> str:
        """The address of the folder's page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def server_bind(self) -> None:
        """Binds as TCPServer does, since HTTPServer also looks up the host's name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints one line about a failed request; a browser that went away is not reported."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            print(f"facenet-jax: a request failed ({type(error).__name__}: {first_line(error)})", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    server: FolderServer
    server_version, sys_version = "facenet-jax", ""
    timeout: ClassVar[float] = 30.0  # a silent client does not keep its thread

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing."""

    def _answer(self, body: bool) -> None:
        try:
            self._check_host()
            path = _place(self.server.root, self.path)
            if path.is_dir():
                address = self.path.partition("?")[0]
                if not address.endswith("/"):  # relative links of the page need it
                    name = quote(unquote_to_bytes(address.rpartition("/")[2]))
                    self._head(HTTPStatus.MOVED_PERMANENTLY, {"Location": f"./{name}/", "Content-Length": "0"})
                    return
                if not (path / "index.html").is_file():
                    self._page(_folder_page(self.server.root, path), body)
                    return
                path = _inside(self.server.root, path / "index.html")
            with _opened(path) as file:
                size = os.fstat(file.fileno()).st_size
                kind = _KINDS.get(path.suffix.lower(), _OTHER)
                self._head(HTTPStatus.OK, {"Content-Type": kind, "Content-Length": str(size)})
                while body and size > 0 and (part := file.read(min(_PART, size))):
                    self.wfile.write(part)
                    size -= len(part)
        except _Refused as refused:
            self._refuse(refused.status, body)
        except (ConnectionError, TimeoutError):  # the browser went away
            self.close_connection = True

    def _check_host(self) -> None:
        hosts = self.headers.get_all("Host") or []
        allowed = {f"{name}:{self.server.server_port}" for name in _NAMES}
        if self.server.server_port == 80:
            allowed |= set(_NAMES)
        if len(hosts) != 1 or hosts[0].strip().lower() not in allowed:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST)

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (_HEADERS | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def _page(self, text: str, body: bool) -> None:
        data = text.encode("utf-8", "backslashreplace")
        self._head(HTTPStatus.OK, {"Content-Type": _KINDS[".html"], "Content-Length": str(len(data))})
        if body:
            self.wfile.write(data)

    def _refuse(self, status: HTTPStatus, body: bool) -> None:
        data = f"{status.value} {status.phrase}\n".encode()
        self._head(status, {"Content-Type": _TEXT, "Content-Length": str(len(data))})
        if body:
            self.wfile.write(data)


def _place(root: Path, target: str) -> Path:
    """The file or folder that a request asks for.

    Raises:
      _Refused: it is not in the folder, or is not served.
    """
    address = target.partition("?")[0].partition("#")[0]
    if not address.startswith("/"):  # http://elsewhere/, as a proxy is asked
        raise _Refused(HTTPStatus.BAD_REQUEST)
    parts = [part for part in unquote_to_bytes(address).split(b"/") if part]
    if any(part.startswith(b".") or b"\0" in part for part in parts):  # hidden files, `.` and `..`
        raise _Refused(HTTPStatus.NOT_FOUND)
    return _inside(root, root.joinpath(*map(os.fsdecode, parts)))


def _inside(root: Path, path: Path) -> Path:
    """The path without links, which must lie in the folder."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # it does not exist, its name is too long, or links form a circle
        raise _Refused(HTTPStatus.NOT_FOUND) from error
    if real != root and root not in real.parents:
        raise _Refused(HTTPStatus.FORBIDDEN)
    return real


def _opened(path: Path) -> IO[bytes]:
    """Opens a regular file; refuses pipes and others without waiting for them."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise _Refused(HTTPStatus.FORBIDDEN if isinstance(error, PermissionError) else HTTPStatus.NOT_FOUND) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _Refused(HTTPStatus.FORBIDDEN)
    return file


def _folder_page(root: Path, folder: Path) -> str:
    """The page of a folder: its pages and those of its subfolders first, then all other entries."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise _Refused(HTTPStatus.FORBIDDEN) from error
    entries, pages = list[Entry](), list[Entry]()
    for name in names:
        path = folder / name
        if name.startswith(".") or not _is_served(root, path):
            continue
        entry = _entry(folder, path)
        (pages if path.suffix.lower() == ".html" and entry.size is not None else entries).append(entry)
        if entry.size is None:
            pages += [_entry(folder, page) for page in sorted(path.glob("[!.]*.html")) if _is_served(root, page)]
    title = "/".join(("", *folder.relative_to(root).parts))
    return render(
        "folder.html",
        f"{root.name}{title if title != '/' else ''}".encode("utf-8", "backslashreplace").decode(),
        above=folder != root,
        pages=pages[:_MOST],
        entries=entries[:_MOST],
        more=max(0, len(pages) - _MOST) + max(0, len(entries) - _MOST),
    )


def _is_served(root: Path, path: Path) -> bool:
    try:
        kind = _inside(root, path).stat().st_mode
    except (_Refused, OSError):
        return False
    return stat.S_ISREG(kind) or stat.S_ISDIR(kind)


def _entry(folder: Path, path: Path) -> Entry:
    is_folder = path.is_dir()
    name = path.relative_to(folder).as_posix()
    shown = name.encode("utf-8", "backslashreplace").decode() + "/" * is_folder
    return Entry(shown, quote(os.fsencode(name)) + "/" * is_folder, None if is_folder else path.stat().st_size)
