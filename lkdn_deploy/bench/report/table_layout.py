"""Tables as words in cells, and how a terminal shows them."""

import textwrap
from dataclasses import dataclass

WIDTH = 80
"""Columns of a terminal."""
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    short: str = ""
    """The title where there is little room; the title itself if empty."""
    name: bool = False
    """Whether it says which row it is. Names come first, and stand left."""
    close: bool = False
    """Whether it belongs to the column before it, as an interval to its value."""

    @property
    def head(self) -> str:
        """The title for a terminal."""
        return self.short or self.title


@dataclass(frozen=True, slots=True)
class Table:
    """Words in rows, as many in each as there are columns."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[str, ...] = ()
    """What the columns mean, where the titles do not say it."""


def wrapped(text: str, first: str = "", then: str = "") -> list[str]:
    """In lines of ``WIDTH`` at most, which start with ``first`` and ``then``."""
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=then, break_on_hyphens=False)


def aligned(table: Table) -> list[str]:
    """Lines of ``WIDTH`` at most, without caption and legend.

    A row is a line. Where that is too wide, its names have lines of their own with the other cells below, aligned;
    where even these are too wide, each has its title beside it.
    """
    every = (tuple(column.head for column in table.columns), *table.rows)
    lines = _laid(table.columns, every)
    if _fit(lines):
        return lines
    names = sum(column.name for column in table.columns)
    figures = [INDENT + line for line in _laid(table.columns[names:], tuple(row[names:] for row in every))]
    if not _fit(figures):
        titles = every[0][names:]
        figures = ["", *(", ".join(map(" ".join, zip(titles, row[names:], strict=True))) for row in table.rows)]
    lines = []
    for row, line in zip(every, figures, strict=True):
        lines += wrapped("  ".join(row[:names]))
        lines += [line] if len(line) <= WIDTH else wrapped(line, INDENT, INDENT)
    return [line for line in lines if line]


def _fit(lines: list[str]) -> bool:
    return all(len(line) <= WIDTH for line in lines)


def _laid(columns: tuple[Column, ...], rows: tuple[tuple[str, ...], ...]) -> list[str]:
    """Each row as a line, its cells below each other."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    lines = []
    for row in rows:
        line = ""
        for column, cell, width in zip(columns, row, widths, strict=True):
            gap = " " if column.close else "  "
            line += gap * bool(line) + (cell.ljust(width) if column.name else cell.rjust(width))
        lines.append(line.rstrip())
    return lines
