"""Renders self-contained HTML pages from templates."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import jinja2
from markupsafe import Markup
from PIL import Image, ImageOps

# Cells of at least this many letters, such as paths, break their text over lines.
_LONG = 28


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
      text: the text shown.
      key: the number to sort by; None: its text.
      title: the text on hover.
    """

    text: str
    key: float | None = None
    title: str = ""


Row: TypeAlias = Sequence[Cell | str]


@dataclass(frozen=True)
class Table:
    """A table that a click on a heading sorts; false if it has no rows."""

    heads: Sequence[str]
    rows: Sequence[Row]

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows, with every cell as a `Cell`."""
        return [[one if isinstance(one, Cell) else Cell(one) for one in row] for row in self.rows]

    @property
    def kinds(self) -> list[str]:
        """For each column its class in the style sheet: `number`, `long` or none."""
        columns = list(zip(*self.cells, strict=True))
        return [
            "number" if any(cell.key is not None for cell in column)
            else "long" if any(len(cell.text) >= _LONG for cell in column)
            else ""
            for column in columns
        ]  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A drawing, as SVG or `<img>`, with its caption."""

    picture: Markup
    caption: str


@dataclass(frozen=True)
class Faces:
    """A line with pictures under it.

    Attributes:
      line: the text.
      shown: (name, data URI) of each; an empty one shows the name.
      kind: a further class in the style sheet.
    """

    line: str
    shown: Sequence[tuple[str, str]]
    kind: str = ""


@lru_cache
def templates() -> jinja2.Environment:
    """The templates of all pages; all values are escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("facenet_jax.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def render(template: str, title: str, **shown: Any) -> str:
    """A whole page: a template that extends `page.html`, filled in."""
    return templates().get_template(template).render(title=title, **shown)


def thumbnail(source: Path | bytes | Image.Image, side: int = 96) -> str:
    """A square image as a data URI, cropped and resized; empty if it cannot be read.

    Args:
      source: an image, its file, or the bytes of its file.
      side: of the result, in pixels.
    """
    if isinstance(source, Image.Image):
        small = ImageOps.fit(source, (side, side))
    else:
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                small = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (side, side))
        except Exception:  # a page is made even if a picture cannot be read
            return ""
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
