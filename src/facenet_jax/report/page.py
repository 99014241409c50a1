"""The page itself: HTML that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #333; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-size: .9rem; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #eee; white-space: nowrap; }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid #0072B2; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
tbody tr:hover { background: #f3f7fa; }
figure { margin: 1rem 0; } figure svg, figure img { width: 100%; height: auto; max-width: 50rem; }
figcaption, .note { color: #666; font-size: .9rem; }
.pairs img { width: 56px; height: 56px; object-fit: cover; display: block; } .pairs th { font-weight: 400; }
.pairs td { text-align: right; } .pairs .same { background: #d6eaf5; } .pairs .wrong { outline: 2px solid #D55E00; }
.gallery { display: flex; flex-wrap: wrap; gap: .5rem; }
.gallery div { border: 1px solid #ddd; padding: .25rem; font-size: .75rem; }
.gallery img { width: 72px; height: 72px; object-fit: cover; }
"""

# A click on a column's head sorts by it: numbers as numbers, then the other way round.
_SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const column = head.cellIndex, up = head.getAttribute("aria-sort") !== "ascending";
  const value = row => { const cell = row.cells[column], key = cell.dataset.key ?? cell.textContent;
    return key === "" || isNaN(key) ? key : Number(key); };
  const rows = [...body.rows].sort((a, b) => { const x = value(a), y = value(b);
    const order = typeof x === "number" && typeof y === "number" ? x - y
      : typeof x === "number" ? -1 : typeof y === "number" ? 1 : String(x).localeCompare(String(y));
    return up ? order : -order; });
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...rows);
});
"""

_NOTE = "<p class=note>"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
      text: what it shows.
      key: what it is sorted by; None: its text.
      title: what it says when pointed at.
    """

    text: str
    key: float | None = None
    title: str = ""


def page(title: str, sections: Sequence[str], style: str = "") -> str:
    """A whole page of sections; `style` is CSS for what they hold beyond the parts made here."""
    body = "\n".join(sections)
    return (
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        '<link rel=icon href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}{style}</style>\n<h1>{html.escape(title)}</h1>\n{body}\n"
        f"<script>{_SCRIPT}</script>\n</html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """A heading and what stands under it; nothing where there is nothing but notes."""
    there = [part for part in parts if part]
    if all(part.startswith(_NOTE) for part in there):
        return ""
    return f"<section>\n<h2>{html.escape(heading)}</h2>\n" + "\n".join(there) + "\n</section>"


def subheading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{html.escape(text)}</h3>"


def note(text: str) -> str:
    """A paragraph of explanation."""
    return f"{_NOTE}{html.escape(text)}</p>"


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> str:
    """A table that a click on a head sorts; nothing where it has no row."""
    if not rows:
        return ""
    head = "".join(f"<th scope=col><button type=button>{html.escape(one)}</button></th>" for one in heads)
    lines = []
    for row in rows:
        cells = []
        for one in row:
            cell = one if isinstance(one, Cell) else Cell(one)
            key = "" if cell.key is None else f' data-key="{cell.key!r}"'
            title = f' title="{html.escape(cell.title)}"' if cell.title else ""
            cells.append(f"<td{key}{title}>{html.escape(cell.text)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f"<div class=wide><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>\n"
        "</table></div>"
    )


def figure(svg: str, caption: str) -> str:
    """A figure with its caption."""
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def thumbnail(source: Path | bytes | Image.Image, side: int = 96) -> str:
    """A square image as a data URI, cut and shrunk to a side in pixels; empty where it cannot be read.

    Args:
      source: an image, its file, or the bytes of that.
      side: of the result.
    """
    if isinstance(source, Image.Image):
        small = ImageOps.fit(source, (side, side))
    else:
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                small = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (side, side))
        except Exception:  # a page is no place to fail over a picture
            return ""
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def distances(
    names: Sequence[str],
    images: Sequence[str],
    people: Sequence[int],
    values: Sequence[Sequence[float]],
    threshold: float | None,
) -> str:
    """A square of squared distances between faces; nothing where there is none.

    Args:
      names: of the faces.
      images: of them (data URIs); an empty one shows the name.
      people: whose they are: pairs of one person are tinted.
      values: [faces, faces].
      threshold: pairs on the wrong side of it are framed.
    """
    if not names:
        return ""
    heads = [
        f'<img alt="" src="{image}" title="{html.escape(name)}">' if image else html.escape(name)
        for name, image in zip(names, images, strict=True)
    ]
    rows = []
    for row, head in enumerate(heads):
        cells = []
        for column, value in enumerate(values[row]):
            same = people[row] == people[column]
            wrong = threshold is not None and (value <= threshold) != same
            kinds = " ".join(kind for kind, yes in (("same", same), ("wrong", wrong)) if yes)
            shown = "" if row == column else f"{value:.2f}"
            cells.append(f'<td class="{kinds}" title="{html.escape(f"{names[row]} / {names[column]}")}">{shown}</td>')
        rows.append(f"<tr><th scope=row>{head}</th>{''.join(cells)}</tr>")
    top = "".join(f"<th scope=col>{head}</th>" for head in heads)
    return f"<div class=wide><table class=pairs>\n<tr><td></td>{top}</tr>\n" + "\n".join(rows) + "\n</table></div>"


def gallery(groups: Sequence[tuple[Sequence[str], str]]) -> str:
    """Groups of images (data URIs) with a line under each; nothing where there is none."""
    if not groups:
        return ""
    divs = []
    for images, line in groups:
        shown = "".join(f'<img alt="" loading=lazy src="{image}">' for image in images)
        divs.append(f"<div>{shown}<br>{html.escape(line)}</div>")
    return f"<div class=gallery>{''.join(divs)}</div>"
