"""Builds what the site shows beyond the pages of docs/: reference tables from the code, pages from elsewhere."""

from __future__ import annotations

import argparse
import os
import posixpath
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Files of the repository that are pages of the site too, and where; docs/ itself is the site's root.
MOVED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "SECURITY.md": "security.md",
    "LICENSE": "LICENSE.txt",
}
MEASURED = ("benchmarks/results/", "measured/")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^()\s]+)\)")


def site_path(path: str) -> str | None:
    """Where a file of the repository stands on the site; None where it does not."""
    if path in MOVED:
        return MOVED[path]
    for folder, moved in (("docs/", ""), MEASURED):
        if path.startswith(folder) and (ROOT / path).is_file():
            return moved + path.removeprefix(folder)
    return None


def repository_path(src_uri: str) -> str:
    """The file of the repository that a page of the site is made from."""
    for path, moved in MOVED.items():
        if src_uri == moved:
            return path
    if src_uri.startswith(MEASURED[1]):
        return MEASURED[0] + src_uri.removeprefix(MEASURED[1])
    return f"docs/{src_uri}"


def links_of_the_site(markdown: str, src_uri: str) -> str:
    """Markdown with the links that hold in the repository made those that hold on the site."""
    own = repository_path(src_uri)

    def moved(match: re.Match[str]) -> str:
        picture, text, link = match.groups()
        if "badge" in text + link:
            return ""  # the site fetches nothing from elsewhere
        target, _, anchor = link.partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return f"{picture}[{text}]({link})"
        path = posixpath.normpath(posixpath.join(posixpath.dirname(own), target))
        place = site_path(path)
        if place is None:
            return text  # in the repository alone
        relative = posixpath.relpath(place, posixpath.dirname(src_uri) or ".")
        return f"{picture}[{text}]({relative}{'#' if anchor else ''}{anchor})"

    # Code is left as it is.
    parts = re.split(r"(^```.*?^```\n|`[^`\n]+`)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if number % 2 else LINK.sub(moved, part) for number, part in enumerate(parts))


def config_table() -> str:
    """A table of each group of config keys, from the one table of the code."""
    from facenet_jax.config import KEYS

    lines: list[str] = []
    group = None
    for key in KEYS:
        name = key.name.partition(".")[0] if "." in key.name else "run"
        if name != group:
            lines += ["", f"## {name}", "", "| `--config.` | default | what it sets |", "|---|---|---|"]
            group = name
        lines.append(f"| `{key.name}` | `{key.default!r}` | {_cell(str(key))} |")
    return "\n".join(lines)


def commands() -> str:
    """Usage and options of each command and protocol, from the parsers."""
    from facenet_jax.cli import make_parser
    from facenet_jax.commands.options import all_parsers

    lines: list[str] = []
    # The formatter breaks lines at the width of the terminal.
    os.environ["COLUMNS"] = "100"
    for words, parser in all_parsers(make_parser()):
        if not words:
            continue
        lines += ["", f"{'#' * (len(words) + 1)} {' '.join(words)}", "", _cell(parser.description or ""), ""]
        lines += ["```text", parser.format_usage().strip(), "```", ""]
        rows = list(_rows(parser))
        if rows:
            lines += ["| | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        if isinstance(action, argparse._SubParsersAction):
            names = ", ".join(action.choices)
            yield f"| `{action.metavar}` | {names} |"
            continue
        name = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{action.metavar or action.dest}`"
        if action.option_strings and action.nargs != 0:
            name += f" `{formatter._format_args(action, formatter._get_default_metavar_for_optional(action))}`"
        yield f"| {name} | {_cell(formatter._expand_help(action) if action.help else '')} |"


def _cell(text: str) -> str:
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("*", "\\*")


GENERATED = {"<!-- config keys -->": config_table, "<!-- commands -->": commands}


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages from outside docs/."""
    from mkdocs.structure.files import File

    measured = {str(path.relative_to(ROOT)) for path in (ROOT / MEASURED[0]).iterdir()}
    for path in sorted(measured | MOVED.keys()):
        if (ROOT / path).is_file():
            files.append(File.generated(config, site_path(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fills in the tables and turns the links."""
    for marker, make in GENERATED.items():
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    return links_of_the_site(markdown, page.file.src_uri)
