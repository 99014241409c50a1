"""`facenet-jax view`: serves a folder of results on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from facenet_jax.commands.options import add_command

_EPILOG = """\
Open the address in a browser on this machine; Ctrl-C ends it. Nothing is written, and no other machine can connect.
From another one, through SSH:
  ssh -L 8000:127.0.0.1:8000 HOST facenet-jax view RESULTS --port 8000
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to argparse's subparsers."""
    view = add_command(
        commands,
        "view",
        _view,
        help="show a folder's pages in the browser of this machine",
        description="Serves the pages and files of a folder (report, audit, people, album) on this machine, read-only.",
        epilog=_EPILOG,
    )
    view.add_argument("folder", type=Path, metavar="RESULTS", help="a folder; nothing outside of it is served")
    view.add_argument("--port", type=int, default=0, help="where to listen (default: any that is free)")


def _view(options: argparse.Namespace, _: list[str]) -> int:
    from facenet_jax.report.server import FolderServer

    with FolderServer(options.folder, options.port) as server:
        print(f"open            {server.url}", flush=True)
        print("                Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended")
    return 0
