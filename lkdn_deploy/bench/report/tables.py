"""The tables of a report, independent of their form."""

import math
from collections.abc import Iterable
from dataclasses import replace
from statistics import fmean, median

from lkdn_deploy.bench.report.figures import (
    INTERVAL,
    by_name,
    model,
    operations,
    roofline_share,
    size,
    statistic,
    typical,
)
from lkdn_deploy.bench.report.machine_text import NONE
from lkdn_deploy.bench.report.table_layout import Column, Table
from lkdn_deploy.bench.results import Protocol, Report, Row

_NAMES = (Column("model", name=True), Column("backend", name=True), Column("precision", "prec.", name=True))
_RATIO, _PSNR, _MEMORY, _ROOF = "over the first row's", "PSNR, dB", "peak memory, MiB", "share of the roofline, %"
_Cells = tuple[Column, list[str]]
"""A column with its cell for each row."""


def latency_table(report: Report) -> Table:
    """Make the table of latencies and other measurements, a line for each row; empty columns are left out."""
    protocol, rows = report.settings.protocol, report.rows
    ntire = protocol is Protocol.NTIRE_2023
    times = [typical(row.latency, protocol) if row.latency else None for row in rows]
    shown = _decimals(times, digits=3, fewest=1)
    title = statistic(protocol)
    columns: list[_Cells] = [(Column(f"{title}, ms", title), [_number(time, shown) for time in times])]
    if not ntire:
        spans = [(row.latency.p5, row.latency.p95) if row.latency else None for row in rows]
        interval = Column("5 % to 95 %, ms", "[p5..p95]", close=True)
        columns.append((interval, [_between(span, "..", shown) for span in spans]))
    ratios = [row.latency.ratio if row.latency else None for row in rows]
    intervals = [(ratio.low, ratio.high) if ratio else None for ratio in ratios]
    fine = _decimals([ratio.value if ratio else None for ratio in ratios], digits=2, fewest=2)
    columns += [
        (Column(_RATIO, "ratio"), _ratios(rows, fine)),
        (
            Column(f"{INTERVAL} interval", f"[{INTERVAL}]", close=True),
            [_between(each, ", ", fine) for each in intervals],
        ),
        (Column(_PSNR, "PSNR"), [_number(row.psnr, 2) for row in rows]),
        (Column(_MEMORY, "MiB"), [_number(row.memory.peak_mib if row.memory else None, 0) for row in rows]),
        (Column(_ROOF, "roof %"), [_percent(roofline_share(row, protocol)) for row in rows]),
    ]
    table = _table(f"Latency, {title} in ms", rows, columns)
    return replace(table, legend=_legend(report, {column.title for column in table.columns}))


def cost_table(report: Report) -> Table | None:
    """Make the table of counted costs, a line for each model; ``None`` if nothing was counted."""
    costs = list(dict.fromkeys((model(row), row.cost) for row in report.rows if row.cost))
    if not costs:
        return None
    columns = (
        Column("model", name=True),
        Column("Params K"),
        Column(f"{operations(report.settings.protocol)} G"),
        Column("Acts M"),
        Column("Convs"),
        Column("counted at"),
    )
    cells = tuple(
        (
            name,
            f"{cost.parameters / 1e3:,.1f}",
            f"{cost.operations / 1e9:,.2f}",
            f"{cost.activations / 1e6:,.2f}",
            f"{cost.convolutions:,}",
            size(cost.input_size),
        )
        for name, cost in costs
    )
    return Table("Counted", columns, cells)


def quality_table(report: Report) -> Table | None:
    """Make the table of PSNR and SSIM, a line for each row and test set; ``None`` if nothing was rated."""
    cells = tuple(
        (
            *_named(row),
            each.name,
            f"{each.images:,}",
            "inf" if each.psnr is None else f"{each.psnr:.3f}",
            f"{each.ssim:.4f}",
        )
        for row in report.rows
        for each in row.quality
    )
    columns = (*_NAMES, Column("test set", name=True), Column("images"), Column(_PSNR), Column("SSIM"))
    return Table("Quality", columns, cells) if cells else None


def start_table(report: Report) -> Table | None:
    """Make the table of how each row was timed: what came before the samples, and what they include."""
    rows = [row for row in report.rows if row.latency]
    found = [row.latency for row in rows if row.latency]
    if not found:
        return None
    protocol = report.settings.protocol
    mean_or_median = fmean if protocol is Protocol.NTIRE_2023 else median
    columns: list[_Cells] = [
        (Column("weights"), [row.weights for row in rows]),
        (Column("building, s"), [_number(each.building and each.building / 1e3, 1) for each in found]),
        (Column("opening, ms"), [_number(each.opening, 0) for each in found]),
        (Column("first run, ms"), [_number(each.first, 1) for each in found]),
        (Column("warm-up runs"), [_number(each.warm_up.runs if each.warm_up else None, 0) for each in found]),
        (Column("warm-up, s"), [_number(each.warm_up.seconds if each.warm_up else None, 1) for each in found]),
        (Column("samples"), [_number(len(each.samples), 0) for each in found]),
        (
            Column(f"{statistic(protocol)} of the device alone, ms"),
            [_number(mean_or_median(each.device_samples) if each.device_samples else None, 3) for each in found],
        ),
        (Column("host copies"), [str(each.copies) for each in found]),
    ]
    return _table("How it was timed", rows, columns)


def head(report: Report) -> list[str]:
    """Return the settings in words: protocol, input, threads."""
    settings = report.settings
    ntire = settings.protocol is Protocol.NTIRE_2023
    given = size(settings.input_size) if settings.input_size else "the images' own size"
    times = "" if ntire else f", {settings.rounds} {'round' if settings.rounds == 1 else 'rounds'}"
    threads = f"{settings.threads} {'thread' if settings.threads == 1 else 'threads'}"
    return [f"protocol {settings.protocol}", f"input {given}", f"{threads}{times}"]


def _legend(report: Report, titles: set[str]) -> tuple[str, ...]:
    """Explain the columns of the latency table that are present."""
    tests = dict.fromkeys(each.name for row in report.rows for each in row.quality)
    memories = dict.fromkeys(row.memory.device for row in report.rows if row.memory)
    roofs = dict.fromkeys(row.bounds.device for row in report.rows if row.bounds)
    rule = "on RGB, border 4" if report.settings.protocol is Protocol.NTIRE_2023 else "on luma, border as the scale"
    first = next(iter(by_name(report.rows)), "")
    meanings = {
        _RATIO: f"ratio: over the latency of {first}, with its {INTERVAL} bootstrap interval",
        _PSNR: f"PSNR: dB, mean over the images of {', '.join(tests)}, {rule}",
        _MEMORY: f"peak memory (MiB): the most that a run allocated, on {', '.join(memories)}",
        _ROOF: f"roofline (roof %): the least time on {', '.join(roofs)} at its peak rates, with pointwise operations "
        "fused and nothing cached, over the measured time",
    }
    return tuple(meaning for title, meaning in meanings.items() if title in titles)


def _table(caption: str, rows: Iterable[Row], columns: list[_Cells]) -> Table:
    """Make a table of the rows' names and the columns that are not empty."""
    kept = [(column, cells) for column, cells in columns if any(cell != NONE for cell in cells)]
    kept = kept or columns[:1]
    cells = zip(*(cells for _, cells in kept), strict=True)
    lines = tuple((*_named(row), *line) for row, line in zip(rows, cells, strict=True))
    return Table(caption, (*_NAMES, *(column for column, _ in kept)), lines)


def _named(row: Row) -> tuple[str, str, str]:
    return model(row), row.backend, row.precision


def _decimals(values: Iterable[float | None], digits: int, fewest: int) -> int:
    """Return the decimals that show the least value of a column with this many digits: ``fewest`` to three."""
    least = min((value for value in values if value), default=1.0)
    return min(max(digits - 1 - math.floor(math.log10(least)), fewest), 3)


def _number(value: float | None, decimals: int) -> str:
    return NONE if value is None else f"{value:,.{decimals}f}"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.0f}"


def _between(span: tuple[float, float] | None, sign: str, decimals: int) -> str:
    return f"[{sign.join(_number(end, decimals) for end in span)}]" if span else NONE


def _ratios(rows: tuple[Row, ...], decimals: int) -> list[str]:
    """Format the ratios to the first row, with ``~`` before those that are not told apart from 1."""
    ratios = [row.latency.ratio if row.latency else None for row in rows]
    cells = [f"{'' if each.told_apart else '~'}{_number(each.value, decimals)}" if each else NONE for each in ratios]
    return [_number(1.0, decimals), *cells[1:]] if any(ratios) and rows[0].latency else cells
