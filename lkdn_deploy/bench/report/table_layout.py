"""Tables of texts, and their layout in a terminal."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 80
"""Columns of a terminal."""
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    short: str = ""
    """Title where room is scarce; empty if the title itself is short."""
    name: bool = False
    """Whether its cells identify the row. Such columns come first and are aligned left."""
    close: bool = False
    """Whether it belongs to the column before it, as an interval belongs to its value."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: rows with one text for each column."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[str, ...] = ()
    """Explanations of columns whose titles are not enough."""


def wrapped(text: str, first: str = "", then: str = "") -> list[str]:
    """Wrap a text into lines of at most ``WIDTH``, which start with ``first`` and ``then``."""
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=then, break_on_hyphens=False)


def aligned(table: Table) -> list[str]:
    """Lay out a table, without caption and legend, in lines of at most ``WIDTH``.

    Each row is a line. If that is too wide, its names get a line of their own, with the other cells aligned below; if
    those are too wide, each cell is preceded by its title instead.
    """
    every = [tuple(column.short or column.title for column in table.columns), *table.rows]
    lines = _lines(table.columns, every)
    if _fit(lines):
        return lines
    names = sum(column.name for column in table.columns)
    cells = [row[names:] for row in every]
    figures = [INDENT + line for line in _lines(table.columns[names:], cells)]
    if not _fit(figures):
        figures = ["", *(", ".join(map(" ".join, zip(cells[0], row, strict=True))) for row in cells[1:])]
    lines = []
    for row, line in zip(every, figures, strict=True):
        lines += wrapped("  ".join(row[:names]))
        lines += [line] if len(line) <= WIDTH else wrapped(line, INDENT, INDENT)
    return [line for line in lines if line]


def _fit(lines: list[str]) -> bool:
    return max(map(len, lines)) <= WIDTH


def _lines(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """Format each row as a line, with the cells of a column aligned."""
    lines = [""] * len(rows)
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows]
        width = max(map(len, cells))
        gap = "" if index == 0 else " " if column.close else "  "
        padded = [cell.ljust(width) if column.name else cell.rjust(width) for cell in cells]
        lines = [line + gap + cell for line, cell in zip(lines, padded, strict=True)]
    return [line.rstrip() for line in lines]
