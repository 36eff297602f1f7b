"""A report as text: for a terminal of 80 columns, and as GitHub Markdown."""

import re
from collections.abc import Iterable

from lkdn_deploy.bench.machine import brief
from lkdn_deploy.bench.report.notes import notes
from lkdn_deploy.bench.report.plain import with_plain_texts
from lkdn_deploy.bench.report.table4 import paper_table
from lkdn_deploy.bench.report.table_layout import Table, aligned, wrapped
from lkdn_deploy.bench.report.tables import cost_table, head, latency_table, score_table
from lkdn_deploy.bench.results import Report

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&])")
"""Characters that have a meaning in GitHub Markdown."""


def text(report: Report) -> str:
    """Write a report in lines of at most 80 columns, each with its line end."""
    report = with_plain_texts(report)
    lines = wrapped(", ".join(head(report))) + wrapped(", ".join(brief(report.machine)))
    for table in filter(None, (latency_table(report), cost_table(report), paper_table(report), score_table(report))):
        lines += ["", *wrapped(table.caption), *aligned(table)]
        lines += [line for each in table.legend for line in wrapped(each, "  ", "    ")]
    if found := notes(report):
        lines += ["", *(line for note in found for line in wrapped(note, "- ", "  "))]
    return "\n".join(lines) + "\n"


def markdown(report: Report) -> str:
    """Write a report as GitHub Markdown, in which no text of the report acts as markup or ends a cell."""
    report = with_plain_texts(report)
    parts = ["  \n".join(map(_escaped, filter(None, (", ".join(head(report)), ", ".join(brief(report.machine))))))]
    for table in filter(None, (latency_table(report), cost_table(report), paper_table(report), score_table(report))):
        parts += [f"**{_escaped(table.caption)}**", _rows(table), _list(table.legend)]
    return "\n\n".join(filter(None, [*parts, _list(notes(report))])) + "\n"


def _rows(table: Table) -> str:
    heads = " | ".join(_escaped(column.title) for column in table.columns)
    rules = " | ".join("---" if column.name else "---:" for column in table.columns)
    rows = [" | ".join(map(_escaped, row)) for row in table.rows]
    return "\n".join(f"| {row} |" for row in (heads, rules, *rows))


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {_escaped(item)}" for item in items)


def _escaped(words: str) -> str:
    return _MARKUP.sub(r"\\\1", words)
