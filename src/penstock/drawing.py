"""What the drawings of all commands share: where they may be written, their page, its tables, plain axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from penstock.errors import PenstockError

SUFFIXES = (".png", ".svg", ".html")
GRID = "#dfe3e6"


class PlotError(PenstockError):
    """A plot that cannot be drawn or written."""


def check_plot(path: Path) -> None:
    """Raises PlotError for what would only be found out after a long run."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise PlotError(f"plot={str(path)!r} must end in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise PlotError(f"plot={str(path)!r}: there is no directory {str(path.parent)!r}")
    if suffix != ".html" and find_spec("matplotlib") is None:
        raise PlotError(f"plot={str(path)!r} needs matplotlib: `pip install penstock[plot]`; a .html needs nothing")


def save(path: Path, page: Callable[[], str], figure: Callable[[], Any]) -> None:
    """Writes a page, or a figure of matplotlib's, as the name asks. Raises PlotError."""
    try:
        if path.suffix.lower() == ".html":
            path.write_text(page(), encoding="utf-8")
        else:
            figure().savefig(path, dpi=150)
    except OSError as error:
        raise PlotError(f"plot={str(path)!r}: {error.strerror or error}") from error


def plain(axes: Any, title: str, grid: str) -> None:
    """Axes of matplotlib's with a title, and lines across one direction, "x" or "y"."""
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


_STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1c2024; --faint: #667079; --line: #dfe3e6; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181b; --ink: #e6e9eb; --faint: #98a2ab; --line: #30363c; }
}
body {
  margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 3rem;
  background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1rem; margin: 2.2rem 0 .5rem; }
p { margin: .2rem 0; }
figure { margin: 0 0 .8rem; }
figcaption, .faint { color: var(--faint); font-size: .9rem; }
.counts { display: flex; flex-wrap: wrap; gap: .5rem 2.5rem; margin: 1.4rem 0 .6rem; padding: 0; list-style: none; }
.counts b { display: block; font-size: 1.5rem; font-weight: 600; line-height: 1.2; }
.counts i { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .4em; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--faint); }
svg .name { fill: var(--ink); }
svg .grid { stroke: var(--line); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 0 .3rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--faint); font-weight: 500; }
th:first-child, td:first-child { padding-left: 0; text-align: left; }
td:first-child { min-width: 9rem; white-space: normal; overflow-wrap: anywhere; }
"""


def sheet(title: str, body: Iterable[str], style: str) -> str:
    """A page that needs nothing else, light or dark as the reader's screen is. title: text; style: CSS beside ours."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Its cells are text; the first of a row stands left. A narrow screen scrolls it."""
    yield '<div class="scroll"><table>'
    yield f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
    yield "</table></div>"
