"""Reads JSON files; a damaged one raises ValueError."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
      OSError: it cannot be read.
      ValueError: it is not JSON, not UTF-8, or nested deeper than anything that this package writes.
    """
    return _parsed(path.read_text(encoding="utf-8"))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deep") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics in a file, each a step and numbers or null; other lines, as one cut short, are left out.

    Raises:
      OSError: it cannot be read.
    """
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = _parsed(line.decode())
        except ValueError:
            continue
        if not isinstance(row, dict) or not _is(row.get("step"), int):
            continue
        if all(value is None or is_number(value) for value in row.values()):
            rows.append(row)
    return rows


def is_number(value: Any) -> bool:
    """Whether it is a number that is finite."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def checked(kind: type[T], content: Any) -> T:
    """A dataclass made of a JSON object that has its entries, no others, and values of their types.

    Raises:
      ValueError: it has not; a number of things is below 0, or larger than an int64 holds.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(content, dict) or set(content) != names:
        raise ValueError("its entries are others")
    for name, hint in get_type_hints(kind).items():
        if not _is(content[name], hint):
            raise ValueError(f"its entry {name} is {str(content[name])[:40]!r}")
    return kind(**content)


def _is(value: Any, hint: Any) -> bool:
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return any(_is(value, part) for part in parts)
    if kind is list:
        return isinstance(value, list) and all(_is(one, parts[0]) for one in value)
    if kind is dict:
        return isinstance(value, dict) and all(_is(one, parts[1]) for one in value.values())
    if kind is int:
        return type(value) is int and 0 <= value < 2**63
    return isinstance(value, kind)
