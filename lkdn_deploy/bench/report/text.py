"""A report as text: for a terminal of 80 columns, and as GitHub Markdown."""

import re
from collections.abc import Iterable

from lkdn_deploy.bench.report.facts import brief
from lkdn_deploy.bench.report.notes import notes
from lkdn_deploy.bench.report.printable import printable
from lkdn_deploy.bench.report.table_layout import Table, aligned, wrapped
from lkdn_deploy.bench.report.tables import cost_table, head, latency_table
from lkdn_deploy.bench.results import Report

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&])")
"""What GitHub Markdown would take for more than a character."""


def text(report: Report) -> str:
    """Lines of 80 columns at most, the last one ended too."""
    report = printable(report)
    lines = wrapped(", ".join(head(report))) + wrapped(", ".join(brief(report.machine)))
    for table in tables(report):
        lines += ["", *wrapped(table.caption), *aligned(table)]
        lines += [line for each in table.legend for line in wrapped(each, "  ", "    ")]
    if found := notes(report):
        lines += ["", *(line for note in found for line in wrapped(note, "- ", "  "))]
    return "\n".join(lines) + "\n"


def markdown(report: Report) -> str:
    """The same as GitHub Markdown. Words of the report are words there: none is markup, none ends a cell."""
    report = printable(report)
    parts = ["  \n".join(map(_escaped, filter(None, (", ".join(head(report)), ", ".join(brief(report.machine))))))]
    for table in tables(report):
        parts += [f"**{_escaped(table.caption)}**", _rows(table), _list(table.legend)]
    return "\n\n".join(filter(None, [*parts, _list(notes(report))])) + "\n"


def tables(report: Report) -> list[Table]:
    """Those that have anything: what was timed, and what is counted."""
    return [table for table in (latency_table(report), cost_table(report)) if table]


def _rows(table: Table) -> str:
    heads = " | ".join(_escaped(column.title) for column in table.columns)
    rules = " | ".join("---" if column.name else "---:" for column in table.columns)
    rows = [" | ".join(map(_escaped, row)) for row in table.rows]
    return "\n".join(f"| {row} |" for row in (heads, rules, *rows))


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {_escaped(item)}" for item in items)


def _escaped(words: str) -> str:
    return _MARKUP.sub(r"\\\1", words)
