"""A report as one self-contained web page: without scripts, and without fonts or pictures from elsewhere."""

from collections.abc import Iterable
from html import escape
from string import Template

from lkdn_deploy.bench.machine import brief, facts
from lkdn_deploy.bench.report.notes import notes
from lkdn_deploy.bench.report.plain import with_plain_texts
from lkdn_deploy.bench.report.plots import kinds_plot, quality_plot, roofline_plot
from lkdn_deploy.bench.report.table4 import paper_table
from lkdn_deploy.bench.report.table_layout import Table
from lkdn_deploy.bench.report.tables import cost_table, head, latency_table, quality_table, score_table, start_table
from lkdn_deploy.bench.results import Report

# Even if a text were not escaped, the page could load and run nothing under this policy.
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
$head
</header>
<main>
$body
</main>
</body>
</html>
""")

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5b646e; --line: #dfe3e8; --paper: #fff; --note: #f4f6f8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e6ea; --soft: #9aa4af; --line: #33393f; --paper: #15181b; --note: #1e2226 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 2.5rem clamp(1rem, 4vw, 3rem) 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; -webkit-text-size-adjust: 100% }
h1 { font-size: 1.6rem; line-height: 1.25; font-weight: 650; margin: 0 0 .5rem }
h2 { font-size: 1.15rem; font-weight: 650; margin: 2.75rem 0 .6rem }
header p { color: var(--soft); margin: .1rem 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal }
th, td { padding: .4rem .9rem .4rem 0; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line);
  white-space: nowrap }
th { font-weight: 400 }
thead th { color: var(--soft); vertical-align: bottom; white-space: normal; min-width: 4.5rem; font-size: .82rem;
  line-height: 1.3 }
th:last-child, td:last-child { padding-right: 0 }
tbody th { white-space: normal; min-width: 5.5rem; max-width: 16rem }
.figure { text-align: right }
.close { color: var(--soft); padding-left: 0 }
.facts { width: 100% }
.facts th, .facts td { white-space: normal; overflow-wrap: anywhere }
.facts th { color: var(--soft); width: 14rem; max-width: 40vw }
.legend { color: var(--soft); font-size: .85rem; padding: 0; margin: .8rem 0 0; list-style: none }
.notes { background: var(--note); border-radius: .5rem; padding: .9rem 1.2rem .9rem 2.2rem; margin: 0 }
.notes li + li { margin-top: .35rem }
figure { margin: 0 }
figure svg { display: block; width: 100%; min-width: 34rem; max-width: 46rem; height: auto }
figure svg text { font-family: system-ui, sans-serif !important }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .5rem; max-width: 46rem }
"""

_PLOTS = (
    ("Latency and quality", quality_plot, "Each model has a colour, each backend a marker, each precision a fill."),
    (
        "Time in each kind of layer",
        kinds_plot,
        "By the engine's own profiler, in a separate run: profiling takes time, so the sum is not the latency.",
    ),
    (
        "Roofline",
        roofline_plot,
        "Filled: measured. Hollow: the least time by the device's peak rate and bandwidth if each layer runs alone, if "
        "pointwise operations are fused with the layer before, and if the whole network is fused.",
    ),
)
"""Title, plot and caption of each figure."""


def html(report: Report) -> str:
    """Write a report as a page, in which no text of the report acts as markup."""
    report = with_plain_texts(report)
    tables = (
        latency_table(report),
        cost_table(report),
        paper_table(report),
        score_table(report),
        quality_table(report),
        start_table(report),
    )
    timed, *others = (_table(table) for table in tables if table)
    machine = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(words)}</td></tr>'
        for name, words in facts(report.machine).items()
    )
    found = notes(report)
    body = [
        timed,
        _section("Notes", _list("notes", found)) if found else "",
        *(_figure(title, plot(report), caption) for title, plot, caption in _PLOTS),
        *others,
        _section("Machine", f'<table class="facts"><tbody>{machine}</tbody></table>') if machine else "",
    ]
    lines = (", ".join(head(report)), ", ".join(brief(report.machine)), f"measured {report.made}")
    return _PAGE.substitute(
        title="lkdn-bench",
        style=_STYLE,
        head="\n".join(f"<p>{escape(line)}</p>" for line in lines if line),
        body="\n".join(filter(None, body)),
    )


def _figure(title: str, drawn: str | None, caption: str) -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>"
    return _section(title, f"<figure>{_scrolling(title, drawn)}{below}</figure>") if drawn else ""


def _table(table: Table) -> str:
    kinds = ["" if column.name else "figure close" if column.close else "figure" for column in table.columns]
    heads = "".join(
        f'<th scope="col" class="{kind}">{escape(column.title)}</th>'
        for column, kind in zip(table.columns, kinds, strict=True)
    )
    rows = ""
    for row in table.rows:
        cells = "".join(
            f'<td class="{kind}">{escape(cell)}</td>' if kind else f'<th scope="row">{escape(cell)}</th>'
            for cell, kind in zip(row, kinds, strict=True)
        )
        rows += f"<tr>{cells}</tr>\n"
    inner = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table>"
    legend = _list("legend", table.legend) if table.legend else ""
    return _section(table.caption, _scrolling(table.caption, inner) + legend)


def _section(title: str, inner: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inner}</section>"


def _list(kind: str, items: Iterable[str]) -> str:
    return f'<ul class="{kind}">{"".join(f"<li>{escape(item)}</li>" for item in items)}</ul>'


def _scrolling(title: str, inner: str) -> str:
    """Wrap what may be wider than a phone's screen; the keyboard can scroll it too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(title)}">{inner}</div>'
